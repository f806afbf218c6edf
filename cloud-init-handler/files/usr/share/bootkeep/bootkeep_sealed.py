"""cloud-init part handler of Bootkeep: opens sealed user-data, refuses what is not sealed.

cloud-init imports this module from /var/lib/cloud/handlers before it walks the parts of user-data and vendor-data.
A part handler is not given the other handlers, so importing it puts a guard round cloud-init's own walker:
a sealed part is opened by the program and what was inside walks on as if it had come in clear;
any other part is put to the program, which refuses it unless the machine's owner has allowed unsealed parts.
All decisions are the program's; this file only connects. Run by itself, it only shows that it can be loaded.
"""

import logging
import subprocess

from cloudinit import handlers, user_data
from cloudinit.settings import PER_ALWAYS

PROGRAM = "/usr/lib/bootkeep/bootkeep-cloud-init"
SEALED = "text/x-bootkeep-sealed"
SECONDS = 60

LOG = logging.getLogger(__name__)

# cloud-config.txt is made anew at each boot, so the sealed part must be opened at each boot too.
frequency = PER_ALWAYS
handler_version = 2

_walk_on = handlers.walker_callback
_inside_sealed = False


def list_types():
    return [SEALED]


def handle_part(_data, _ctype, _filename, _payload, _frequency):
    """Only the begin and end calls come here: the guard takes the parts themselves."""


def _run(arguments, stdin=b""):
    return subprocess.run(
        [PROGRAM, *arguments],
        input=stdin,
        stdout=subprocess.PIPE,
        timeout=SECONDS,
        check=False,
    )


def _as_bytes(payload):
    return payload.encode("utf-8") if isinstance(payload, str) else bytes(payload)


def _open(data, payload):
    global _inside_sealed
    sealed = _as_bytes(payload)
    opened = _run(["open"], sealed)
    if opened.returncode != 0:
        # The program has said why on the console and has made it a claim.
        LOG.error("bootkeep: a sealed part was refused (exit code %d)", opened.returncode)
        return
    message = user_data.UserDataProcessor(data["data"].paths).process(opened.stdout)
    was_inside, _inside_sealed = _inside_sealed, True
    try:
        handlers.walk(message, handlers.walker_callback, data=data)
    finally:
        _inside_sealed = was_inside
    # Anything raised above never comes here: the check then finds that the part was not applied.
    if _run(["applied"], sealed).returncode != 0:
        LOG.error("bootkeep: a sealed part was applied, but this could not be noted")


def _guard(data, filename, payload, headers):
    content_type = headers["Content-Type"]
    if content_type == SEALED:
        return _open(data, payload)
    if _inside_sealed or not payload:
        return _walk_on(data, filename, payload, headers)
    verdict = _run(["unsealed", content_type, str(filename)])
    if verdict.returncode == 0:
        return _walk_on(data, filename, payload, headers)
    LOG.error("bootkeep: refused an unsealed part of type %r", content_type)
    return None


handlers.walker_callback = _guard
