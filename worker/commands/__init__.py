"""The command `shopstream`: one thin file a command; only this room may reach training.

Business logic may not enter: a command parses, calls one function, and prints.
"""

from __future__ import annotations

import logging
import os
import re
import sys

import click

from worker.commands.lazy_group import LazyGroup

# name -> one line of help; the module of the same name is imported only when it is called
_COMMANDS = {
    "demo": "Everything embedded: broker, Redis, a simulated shop, worker, live view.",
    "worker": "Run one worker, settings from the environment.",
    "produce": "Send JSONL, CSV or Parquet files to Kafka as events.",
    "get": "Read a result: recommendations, search, tags, product, answer, trending, release.",
    "dead-letters": "List, show and resend what could not become an event.",
    "forget": "Forget a shopper.",
    "schema": "Print the JSON Schemas of all events and results.",
    "doctor": "Check settings, Kafka, Redis, device and models; say what to do.",
    "samples": "Export labeled samples to Parquet.",
    "record": "Record topics into a folder, for replays.",
    "replay": "Run recorded events again; compare releases on them.",
    "why": "Show what made a result: batch, release, history, candidates, scores.",
    "topics": "Create, check and list the topics.",
    "settings": "Print every setting with its default.",
    "pretrain": "Teach a language model the shop's texts: MLM, MLM + NSP, CLM.",
    "train": "Train a model from samples or public data.",
    "evaluate": "Measure a model with confidence intervals.",
    "retrain": "Train on new samples, judge, and release what is better; once or every few hours.",
    "releases": "List, show, promote, roll back and import releases.",
}


@click.group(
    cls=LazyGroup,
    commands_help=_COMMANDS,
    prefix="worker.commands.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="shopstream")
def shopstream() -> None:
    """A shop's events become answers in Redis while the shopper is still on the page."""


def main() -> None:
    """Run the command line: status 0, 1 (it failed, one clear sentence), 2 (wrong usage)."""
    # What these clients log says our own sentence better; a command that sets up logging (the
    # worker) still gets it.
    for client in ("aiokafka", "gcsfs"):
        logging.getLogger(client).addHandler(logging.NullHandler())
    try:
        status = shopstream.main(standalone_mode=False)
    except click.exceptions.Abort:
        status = 130
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except BrokenPipeError:  # the reader of our output (`| head`) has gone: no fault, no more words
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None:
            raise
        click.echo(f"shopstream: {sentence}", err=True)
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def sentence_of(error: Exception) -> str | None:
    """Return the one sentence of an expected failure; None for a fault of our own."""
    from pydantic import ValidationError

    from worker.errors import ShopstreamError

    if isinstance(error, ShopstreamError):
        return str(error)
    if isinstance(error, ValidationError) and error.title == "Settings":
        return "; ".join(_setting_fault(dict(fault)) for fault in error.errors())
    # The rooms below know nothing of worker.errors: their failures are told by name.
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"ModelUnavailable", "FaqError", "LexicalSearchUnavailable", "TrecFormatError"}:
        return str(error)
    if type(error).__module__.startswith("training."):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return None


def _setting_fault(fault: dict[str, object]) -> str:
    place, message = fault["loc"], str(fault["msg"]).removeprefix("Value error, ")
    name = str(place[0]) if isinstance(place, tuple) and place else ""
    if not name:  # a rule between settings, which names them as the code does
        variables = re.sub(r"\b[a-z]+(_[a-z]+)+\b", _variable, message)
        return f"the settings do not fit together: {variables}; see docs/settings.md"
    variable = f"SHOPSTREAM_{name.upper()}"
    value = fault.get("input")
    shown = "" if any(word in name for word in ("password", "key", "url")) else f" {value!r}"
    return f"{variable}{shown} is wrong: {message}; see docs/settings.md"


def _variable(found: re.Match[str]) -> str:
    from worker.settings import Settings

    name = found.group()
    return f"SHOPSTREAM_{name.upper()}" if name in Settings.model_fields else name
