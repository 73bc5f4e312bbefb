"""How text becomes the examples of MLM, NSP and CLM: token store, masks, pairs, blocks.

No loss, no optimiser and no task of a shop may enter.
"""
