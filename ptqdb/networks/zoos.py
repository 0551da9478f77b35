"""Networks by name from torchvision and timm, with their published weights.

Both are optional: they are imported only when one of their networks is requested, and weights are
downloaded only when requested by name.
"""

import math
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any

from torch import nn

from ptqdb.datasets.preprocessing import Geometry, Preprocessing
from ptqdb.errors import DataError, UsageError
from ptqdb.networks.builder import Unpublished
from ptqdb.support.closest import closest_first

WITH_AUXILIARY_CLASSIFIERS = ("googlenet", "inception_v3")


@dataclass(frozen=True)
class TorchvisionNetwork:
    """A classification network of torchvision.

    Attributes
    ----------
    weights
        Name of a member of torchvision's weights enumeration, or None: fresh weights.
    transforms_input
        Whether ``googlenet`` and ``inception_v3`` renormalize ImageNet-normalized inputs, as their
        published weights require.

    Raises
    ------
    UsageError
        torchvision is not installed, or has no such network or weights; the message lists the
        valid names, the closest first.
    """

    name: str
    weights: str | None = None
    transforms_input: bool = False

    def __post_init__(self) -> None:
        models = self._models()
        known = models.list_models(module=models)
        if self.name not in known:
            raise UsageError(
                f"torchvision has no classification network {self.name!r}; closest are "
                f"{', '.join(closest_first(self.name, known)[:5])}"
            )
        if self.weights is not None and self.weights not in self._enumeration().__members__:
            valid = ["DEFAULT", *(entry.name for entry in self._enumeration())]
            raise UsageError(
                f"--weights: torchvision has no {self.weights!r} for {self.name}; expected "
                f"{', '.join(closest_first(self.weights, valid))}, random, or a file"
            )

    @property
    def spec(self) -> str:
        """As a user gives it."""
        return f"torchvision:{self.name}"

    def preprocessing(self) -> Preprocessing | None:
        """The transforms of the weights."""
        if self.weights is None:
            return None
        transforms = self._enumeration()[self.weights].transforms()
        geometry = Geometry(
            int(transforms.resize_size[0]),
            int(transforms.crop_size[0]),
            transforms.interpolation.value,
        )
        return Preprocessing(tuple(transforms.mean), tuple(transforms.std), geometry)

    def published_as(self, checkpoint_sha256: str) -> str | None:
        """The name of the published weights whose file has that hash, if any."""
        for entry in self._enumeration():
            beginning = PurePosixPath(entry.url).stem.rpartition("-")[2]
            if len(beginning) >= 8 and checkpoint_sha256.startswith(beginning):
                return str(entry.name)
        return None

    def build(self, class_count: int | None = None) -> nn.Module:
        """The network, with the published weights or with fresh ones.

        Auxiliary classifiers, used only in training, are left out.

        Raises
        ------
        DataError
            The weights could not be downloaded.
        """
        arguments: dict[str, Any] = {} if class_count is None else {"num_classes": class_count}
        if self.name in WITH_AUXILIARY_CLASSIFIERS:
            arguments |= {"aux_logits": False}
            if self.weights is None:
                arguments |= {"init_weights": False, "transform_input": self.transforms_input}
        if self.weights is None:
            return _module(self._models().get_model(self.name, weights=None, **arguments))
        entry = self._enumeration()[self.weights]
        with _published_weights(f"{self.spec} {entry.name}", entry.url):
            return _module(self._models().get_model(self.name, weights=entry, **arguments))

    def key(self, key: str) -> str | None:
        """Return the network's key for a checkpoint's key; None for a training-only classifier.

        The published files of DenseNets use keys from before 2017, with one more dot.
        """
        if self.name in WITH_AUXILIARY_CLASSIFIERS:
            return None if key.startswith(("aux1.", "aux2.", "AuxLogits.")) else key
        if self.name.startswith("densenet"):
            return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key)
        return key

    def _models(self) -> Any:
        return _extra("torchvision.models", "torchvision", self.spec)

    def _enumeration(self) -> Any:
        return self._models().get_model_weights(self.name)


@dataclass(frozen=True)
class TimmNetwork(Unpublished):
    """A network of timm; its name may end with a dot and the tag of published weights.

    Attributes
    ----------
    weights
        ``DEFAULT``, a tag, or None: fresh weights.

    Raises
    ------
    UsageError
        timm is not installed, or has no such network or tag; the message lists the valid names,
        the closest first.
    """

    name: str
    weights: str | None = None

    def __post_init__(self) -> None:
        timm = self._timm()
        architecture, _, tag = self.name.partition(".")
        if architecture not in timm.list_models():
            near = ", ".join(closest_first(architecture, timm.list_models())[:5])
            raise UsageError(f"timm has no network {architecture!r}; closest are {near}")
        asked = self.weights if self.weights not in (None, "DEFAULT") else None
        if tag and asked and asked != tag:
            raise UsageError(f"--weights: {self.spec} names the tag {tag!r}, found {asked!r}")
        tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
        if (tag or asked) and (tag or asked) not in tags:
            known = ", ".join(closest_first(tag or asked or "", tags)) or "none"
            raise UsageError(
                f"timm has no weights {tag or asked!r} for {architecture}; choose from {known}"
            )
        if self.weights is not None and not tags:
            raise UsageError(
                f"--weights: timm publishes none for {architecture}; give --checkpoint FILE"
            )

    @property
    def spec(self) -> str:
        """As a user gives it."""
        return f"timm:{self.name}"

    @property
    def has_published_weights(self) -> bool:
        """Whether the weights are published by timm, by name."""
        return self.weights is not None or "." in self.name

    @property
    def _tagged(self) -> str:
        """The name with the tag, if one was given."""
        untagged = "." in self.name or self.weights in (None, "DEFAULT")
        return self.name if untagged else f"{self.name}.{self.weights}"

    def preprocessing(self) -> Preprocessing | None:
        """The preprocessing in the configuration of the weights.

        For other weights it is the normalization of timm's own, which most fine-tuned weights
        share; their picture size is unknown.

        Raises
        ------
        UsageError
            The weights require pictures that are not square.
        """
        timm = self._timm()
        if not self.has_published_weights:
            default = timm.get_pretrained_cfg(self.name)
            if default is None:
                return None
            return Preprocessing(tuple(default.mean), tuple(default.std))
        published = timm.get_pretrained_cfg(self._tagged).to_dict()
        found = timm.data.resolve_data_config({}, pretrained_cfg=published)
        _, height, width = found["input_size"]
        if height != width:
            raise UsageError(f"{self.spec} takes {height} x {width}; only squares are supported")
        resize = math.floor(height / found["crop_pct"])
        geometry = Geometry(resize, height, found["interpolation"].replace("random", "bicubic"))
        return Preprocessing(tuple(found["mean"]), tuple(found["std"]), geometry)

    def build(self, class_count: int | None = None) -> nn.Module:
        """The network, with the published weights or with fresh ones.

        Raises
        ------
        DataError
            The weights could not be downloaded.
        """
        timm = self._timm()
        arguments: dict[str, Any] = {} if class_count is None else {"num_classes": class_count}
        if self.weights is None:
            return _module(timm.create_model(self.name, pretrained=False, **arguments))
        published = timm.get_pretrained_cfg(self._tagged).to_dict()
        where = f"https://huggingface.co/{published.get('hf_hub_id') or self._tagged}"
        with _published_weights(f"timm:{self._tagged}", where):
            return _module(timm.create_model(self._tagged, pretrained=True, **arguments))

    def _timm(self) -> Any:
        _extra("timm.data", "timm", self.spec)
        return _extra("timm", "timm", self.spec)


def _extra(module: str, extra: str, spec: str) -> Any:
    """Import an optional dependency."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the extra's own imports
            return import_module(module)
    except ImportError as error:
        raise UsageError(f"{spec} needs {extra}; pip install 'ptqdb[{extra}]'") from error


def _module(module: Any) -> nn.Module:
    assert isinstance(module, nn.Module)
    return module


@contextmanager
def _published_weights(what: str, where: str) -> Iterator[None]:
    """Load without unpickling code; a failed download gives a one-line error."""
    names = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ[names[0]] = "1"
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # URLError and the hub's are OSError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"the weights of {what} could not be downloaded from {where}: {reason}; "
            "give --checkpoint FILE with a file downloaded by other means"
        ) from error
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
