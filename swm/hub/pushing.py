"""A result folder as a repository on the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swm.errors import HubError, brief
from swm.files.front_matter import CARD
from swm.files.manifest import MANIFEST, listed_files
from swm.hub.contents import contents
from swm.hub.privacy import check_private
from swm.shown.tables import Table, html
from swm.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi


LONGEST = 400


@dataclass(frozen=True)
class Push:
    """What goes where: files by their names there, the card's metadata, and why anything stays here.

    `private` is that of a new repository; None leaves it to the settings of its owner, which are public unless an
    organisation says otherwise. `commit` is the address of the commit, once there is one.
    """

    folder: Path
    repository: str
    private: bool | None
    files: dict[str, Path]
    left_out: dict[str, str]
    card: dict[str, Any]
    notes: list[str]
    commit: str | None = None

    @property
    def visibility(self) -> str:
        """Who can see a new repository, in words."""
        if self.private is None:
            return "public, unless its owner's settings say private"
        return "private" if self.private else "public"

    @property
    def sizes(self) -> dict[str, int]:
        """The bytes of each file."""
        return {name: file.stat().st_size for name, file in self.files.items()}

    def __repr__(self) -> str:
        where = self.commit or "not pushed yet"
        return f"Push({self.folder} to {self.repository}: {len(self.files)} files; {where})"

    def _repr_html_(self) -> str:
        rows = [*([name, f"{count:,} bytes"] for name, count in self.sizes.items())]
        left = [[name, f"stays here: {why}"] for name, why in self.left_out.items()]
        notes = [f"note: {note}" for note in self.notes]
        return html([Table(("files", ""), [*rows, *left], f"{self.folder} to {self.repository}"), *notes])

    def to_dict(self) -> dict[str, Any]:
        """As plain data, files with their bytes."""
        return {**vars(self), "folder": str(self.folder), "files": self.sizes, "visibility": self.visibility}


def push(
    folder: str | Path,
    repository: str,
    *,
    private: bool | None = None,
    gguf: Iterable[str | Path] = (),
    dry_run: bool = False,
    unverified: bool = False,
) -> Push:
    """Push a result to the Hub in one commit, and take away what an earlier push left there and this one does not have.

    A repository that does not exist is made; one that does keeps its visibility, and the files that swm did not push.

    Args:
        folder: What `swm.compress` or `swm.replay` wrote, GGUF files in it too.
        repository: `owner/name`.
        private: Whether a new repository is private; None leaves it to the settings of its owner, as the Hub does.
        gguf: GGUF files that lie elsewhere.
        dry_run: Only say what would be pushed; needs no network and no token.
        unverified: Whether a result may be pushed that was saved with `verify: fast` or `none`.

    Returns:
        What was pushed, or would be.

    Raises:
        HubError: The folder is no finished result, was rejected, changed or not verified, or tells of this machine; the
            Hub is not to be reached, knows no token, or does not take it.
    """
    prepared = prepare(folder, repository, private, gguf, unverified)
    return prepared if dry_run else send(prepared)


def prepare(
    folder: str | Path,
    repository: str,
    private: bool | None = None,
    gguf: Iterable[str | Path] = (),
    unverified: bool = False,
) -> Push:
    """Check everything that can be checked without the Hub.

    Args:
        folder: As for `push`.
        repository: As for `push`.
        private: As for `push`.
        gguf: As for `push`.
        unverified: As for `push`.

    Returns:
        What `send` sends.

    Raises:
        HubError: As for `push`.
    """
    _check_name(repository)
    all_of_it = contents(folder, gguf, unverified)
    card = _card(all_of_it.folder / CARD)
    check_private(all_of_it.folder, all_of_it.files)
    return Push(all_of_it.folder, repository, private, all_of_it.files, all_of_it.left_out, card, notes=all_of_it.notes)


def why_not_now() -> str:
    """Why nothing can be sent from here; empty where nothing stands against it."""
    from huggingface_hub import constants, get_token

    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"
    if get_token() is None:
        return "there is no token of the Hub; run `hf auth login`, or set HF_TOKEN"
    return ""


def send(prepared: Push) -> Push:
    """Send what was prepared, and return it with its commit. Raises HubError when the Hub does not take it."""
    why = why_not_now()
    if why:
        raise HubError(f"nothing was sent to {prepared.repository}: {why}")
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(library_name="swm", library_version=__version__)
    try:
        address = api.create_repo(prepared.repository, private=prepared.private, exist_ok=True)
        stale = _stale(api, prepared)
        operations: list[Any] = [
            *(CommitOperationAdd(name, file) for name, file in prepared.files.items()),
            *map(CommitOperationDelete, stale),
        ]
        done = api.create_commit(
            prepared.repository, operations, commit_message=f"Upload a result of swm {__version__}"
        )
    except Exception as error:  # the hub client has a dozen errors, and the layers below it have theirs
        raise HubError(
            f"nothing was committed to {prepared.repository} at {api.endpoint} ({type(error).__name__}: {_said(error)})"
        ) from error
    gone = [f"{name} of an earlier push was removed" for name in stale]
    return replace(prepared, repository=address.repo_id, commit=done.commit_url, notes=[*prepared.notes, *gone])


def _stale(api: HfApi, prepared: Push) -> list[str]:
    """What the manifest in the repository lists and is not pushed now: old weights would be loaded beside new ones."""
    there = set(api.list_repo_files(prepared.repository))
    if MANIFEST not in there:
        return []
    with tempfile.TemporaryDirectory(prefix="swm-") as folder:
        listed = listed_files(Path(api.hf_hub_download(prepared.repository, MANIFEST, local_dir=folder))) or {}
    return sorted(there & set(listed) - set(prepared.files))


def _said(error: Exception) -> str:
    """What the Hub says, in one line: its reasons stand below the first one."""
    said = " ".join(str(error).split()) or "nothing"
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}..."


def _check_name(repository: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise HubError(f"repository '{repository}' has no name that the Hub takes: {brief(error)}") from None
    if repository.count("/") != 1:
        raise HubError(f"repository '{repository}' does not say whose it is; write OWNER/NAME, as in me/{repository}")


def _card(file: Path) -> dict[str, Any]:
    """The metadata of the card as huggingface_hub reads it. Raises HubError where it cannot."""
    from huggingface_hub import ModelCard

    try:
        card: Any = ModelCard(file.read_text(encoding="utf-8"))
    except Exception as error:  # of the file, of YAML, of the metadata
        raise HubError(f"{file} is no model card that the Hub takes ({type(error).__name__}: {brief(error)})") from None
    data: dict[str, Any] = card.data.to_dict()
    return data
