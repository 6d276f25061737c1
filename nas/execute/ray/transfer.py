"""Transfer of weights to a worker and back without a shared disk.

They go through Ray's object store, or through a storage that all nodes reach: a shared folder or the URI of an object
store (s3://bucket/folder, gs://…). Each run has its own folder there, so that runs with the same networks remove only
their own copies. A network is stored under its digest, in the format of `morphs.save`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import morphs
from morphs import Network
from morphs.errors import MorphError
from morphs.files import GRAPH_FILE, WEIGHTS_FILE
from nas.base.errors import RunError
from nas.execute.ray.messages import PackedNetwork


@dataclass
class JobCheckpoints:
    """The checkpoints of one job, by digest: those that came with it, and those to send back."""

    came: Mapping[str, PackedNetwork]
    storage: Storage | None
    made: dict[str, PackedNetwork] = field(default_factory=dict[str, PackedNetwork])

    def get(self, digest: str) -> Network:
        """Return a network that the job reads. Raises RunError if it did not arrive, or arrived damaged."""
        if digest in self.came:
            return opened(self.came[digest], digest)
        if self.storage is None:
            raise RunError(f"checkpoint {digest[:12]}: did not arrive with its job; resume the run")
        return opened(self.storage.get(digest), digest)

    def put(self, network: Network) -> str:
        """Store a network that the job made, and return its digest."""
        packed = morphs.pack(network)
        if self.storage is not None:
            self.storage.put(network.digest, packed)
        else:
            self.made[network.digest] = packed
        return network.digest


class Storage:
    """A run's folder at a path or URI that the driver and every node of the cluster can read and write.

    run: the run's name (`nas.ledger.ConfigFile.run`); None: the run has no name and uses the path or URI itself.
    """

    def __init__(self, uri: str, run: str | None) -> None:
        """Raises RunError if pyarrow can't open the path or URI."""
        from pyarrow.fs import FileSystem

        self.uri = uri
        try:
            self._files, root = FileSystem.from_uri(uri)
        except (OSError, ValueError) as error:
            raise RunError(
                f"storage {uri}: can't be used ({error}); give an absolute path or a URI like s3://…"
            ) from None
        self._root = root if run is None else f"{root}/{run}"

    def has(self, digest: str) -> bool:
        """Return whether a network of that digest is there in full."""
        return bool(self._files.get_file_info(f"{self._root}/{digest}/{GRAPH_FILE}").is_file)

    def put(self, digest: str, packed: PackedNetwork) -> None:
        """Write a network; the graph comes last, to mark it as complete. Raises RunError."""
        graph, weights = packed
        folder = f"{self._root}/{digest}"
        try:
            self._files.create_dir(folder, recursive=True)
            for name, content in ((WEIGHTS_FILE, weights), (GRAPH_FILE, graph.encode("ascii"))):
                with self._files.open_output_stream(f"{folder}/{name}") as stream:
                    stream.write(content)
        except OSError as error:
            raise RunError(
                f"storage {self.uri}: checkpoint {digest[:12]} can't be written ({error}); fix that and resume"
            ) from None

    def get(self, digest: str) -> PackedNetwork:
        """Read a network. Raises RunError."""
        try:
            return self._read(digest, GRAPH_FILE).decode("ascii"), self._read(digest, WEIGHTS_FILE)
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(
                f"storage {self.uri}: checkpoint {digest[:12]} can't be read ({error}); fix that and resume"
            ) from None

    def remove(self, digest: str) -> None:
        """Remove a network if it is there; errors are ignored."""
        with suppress(OSError):
            self._files.delete_dir(f"{self._root}/{digest}")

    def _read(self, digest: str, name: str) -> bytes:
        with self._files.open_input_stream(f"{self._root}/{digest}/{name}") as stream:
            content: Any = stream.read()
        return bytes(content)


def opened(packed: PackedNetwork, digest: str) -> Network:
    """Unpack a network. Raises RunError if it is damaged or has another digest."""
    try:
        network = morphs.unpack(*packed)
    except MorphError as error:
        raise RunError(f"checkpoint {digest[:12]}: arrived damaged ({error}); resume the run") from None
    if network.digest != digest:
        raise RunError(f"checkpoint {digest[:12]}: arrived as another network; resume the run")
    return network
