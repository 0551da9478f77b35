"""Find and load networks: builder, weights and preprocessing."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from ptqdb.datasets.preprocessing import Geometry, Preprocessing, require_both
from ptqdb.errors import DataError, UsageError
from ptqdb.networks import keys
from ptqdb.networks.builder import Builder, Unpublished
from ptqdb.networks.checkpoints import (
    NetworkDescription,
    TrainedNetwork,
    checkpoint_sha256,
    element_count,
    read_description,
    read_weights,
    weights_sha256,
)
from ptqdb.networks.copies import full_copy
from ptqdb.networks.factories import Factory, find_factory
from ptqdb.networks.given import float_network
from ptqdb.networks.reference import REFERENCE_NETWORKS, ReferenceNetwork, reference_network
from ptqdb.networks.specs import RANDOM, ZOOS, check_spec
from ptqdb.networks.zoos import TimmNetwork, TorchvisionNetwork
from ptqdb.support.paths import is_file
from ptqdb.support.text import is_harmless


@dataclass(frozen=True)
class Reference(Unpublished):
    """A reference network, as wide as its checkpoint says or at full width."""

    network: ReferenceNetwork
    description: NetworkDescription | None

    @property
    def name(self) -> str:
        """The name of the reference network."""
        return self.network.name

    def build(self, class_count: int | None = None) -> nn.Module:
        """The network with fresh weights."""
        if self.description is not None:
            return self.network.build(self.description.width, self.description.class_count)
        return self.network.build(class_count=10 if class_count is None else class_count)

    def preprocessing(self) -> Preprocessing | None:
        """The preprocessing in the checkpoint's description."""
        if self.description is None:
            return None
        return Preprocessing(self.description.mean, self.description.std)


@dataclass(frozen=True)
class InMemory(Unpublished):
    """A module that the caller built and trained; it is copied, never modified."""

    module: nn.Module
    name: str

    def build(self, class_count: int | None = None) -> nn.Module:
        """Return a copy."""
        return full_copy(self.module)


@dataclass(frozen=True)
class NetworkSource:
    """A network that was found but not loaded.

    Attributes
    ----------
    spec
        As the user gave it.
    name, architecture
        Its name in the database, and its family of networks.
    checkpoint
        The file of its weights, or None.
    weights
        The name of published weights, ``random``, or None.
    preprocessing
        None if unknown; ``load`` then raises.
    builder
        Makes the float network.
    class_count
        Number of outputs; None: the default of the network or its checkpoint.
    seed
        Of random weights.
    remarks
        Remarks so far, one line each.
    """

    spec: str
    name: str
    architecture: str
    checkpoint: Path | None
    weights: str | None
    preprocessing: Preprocessing | None
    builder: Builder
    class_count: int | None = None
    seed: int = 0
    remarks: tuple[str, ...] = ()

    @cached_property
    def checkpoint_sha256(self) -> str:
        """SHA-256 of the checkpoint; without a file, of the weights, which are loaded for it.

        Raises
        ------
        DataError
            The file cannot be read, or the weights cannot be obtained.
        """
        if self.checkpoint is not None:
            return checkpoint_sha256(self.checkpoint)
        return weights_sha256(self._build().state_dict())

    def load(self) -> TrainedNetwork:
        """Return the network with its weights, in evaluation mode, on the CPU.

        Raises
        ------
        UsageError
            The preprocessing of the network is unknown.
        DataError
            The code fails, the weights cannot be obtained or are not finite, or keys and shapes of
            the checkpoint differ from the network's; the message lists them.
        """
        preprocessing, remarks = self.known_preprocessing(), list(self.remarks)
        module = self._build()
        if self.checkpoint is not None:
            module, said = self._with_checkpoint(module, self.checkpoint)
            remarks += said
        elif weights_sha256(module.state_dict()) != self.checkpoint_sha256:
            raise DataError(
                f"{self.spec} has different weights each time it is built; give --checkpoint FILE, "
                "or --weights random for reproducible random weights"
            )
        types = {each.dtype for each in module.parameters() if each.is_floating_point()}
        # A network that computes a part in float64 casts its own activations.
        if types - {torch.float32} and types != {torch.float32, torch.float64}:
            remarks.append(f"network of {' and '.join(sorted(map(str, types)))} cast to float32")
            module = module.float()
        keys.refuse_infinite(module, str(self.checkpoint or self.spec))
        keys.refuse_control_characters(module, self.spec)
        module.eval()  # a subclass may return None
        return TrainedNetwork(
            self.name,
            self.architecture,
            module,
            self.checkpoint_sha256,
            preprocessing,
            tuple(remarks),
        )

    def known_preprocessing(self) -> Preprocessing:
        """The preprocessing of the network.

        Raises
        ------
        UsageError
            It is unknown.
        """
        if self.preprocessing is None:
            raise UsageError(
                f"the normalization of the inputs of {self.spec} is unknown; give --mean and "
                "--std (for [0, 1] inputs: --mean 0,0,0 --std 1,1,1)"
            )
        return self.preprocessing

    def _build(self) -> nn.Module:
        """The network before loading a checkpoint, on the CPU; random weights are reproducible."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of third-party code
            if self.weights != RANDOM:
                return float_network(self.builder.build(self.class_count)).cpu()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                return float_network(self.builder.build(self.class_count)).cpu()

    def _with_checkpoint(self, module: nn.Module, path: Path) -> tuple[nn.Module, list[str]]:
        """The module with the file's weights, rebuilt if the file has another class count."""
        found = read_weights(path)
        remarks = list(found.remarks)
        weights, said = keys.fit_keys(module.state_dict(), found.tensors)
        remarks += said
        given = [(self.builder.key(key), tensor) for key, tensor in weights.items()]
        weights = {key: tensor for key, tensor in given if key is not None}
        left_out_count = sum(key is None for key, _ in given)
        if left_out_count:
            remarks.append(f"skipped {left_out_count} keys of training-only classifiers")
        counts = keys.other_class_count(module.state_dict(), weights)
        if counts and self.class_count is None and self._may_have_other_classes:
            module = replace(self, class_count=counts[0])._build()
            remarks.append(f"built with {counts[0]} classes, as in the checkpoint")
            counts = None
        faults = keys.faults(module.state_dict(), weights)
        if faults:
            hint = ""
            if counts:
                hint = f"; make {self.spec} build {counts[0]} classes instead of {counts[1]}"
            raise DataError(
                f"the keys of {path} do not fit {self.spec}: {keys.list_keys(faults)}{hint}"
            )
        keys.load(module, weights)
        return module, remarks

    @property
    def _may_have_other_classes(self) -> bool:
        if isinstance(self.builder, Reference):
            return self.builder.description is None
        return not isinstance(self.builder, Factory)


def network_source(
    spec: str | nn.Module,
    *,
    checkpoint: str | Path | None = None,
    weights: str | None = None,
    name: str | None = None,
    architecture: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: int | None = None,
    crop: int | None = None,
    interpolation: str | None = None,
    class_count: int | None = None,
    seed: int = 0,
) -> NetworkSource:
    """Find a network by its spec, without loading its weights.

    Parameters
    ----------
    spec
        A reference network's name, ``torchvision:NAME``, ``timm:NAME``,
        ``package.module:callable`` or ``path/file.py:callable``; the callable takes no
        arguments. Or a module with its weights, named after its class unless ``name`` is given.
    checkpoint
        A safetensors or torch file.
    weights
        The name of weights published by torchvision or timm, such as ``DEFAULT``; ``random``; or a
        file, as ``checkpoint``.
    name, architecture
        By default the name in the spec, and that name or the reference network's family.
    mean, std, resize, crop, interpolation
        Override the preprocessing of the weights; give ``mean`` and ``std`` together.
    class_count
        Outputs of a network that is built with random weights.
    seed
        Of random weights.

    Raises
    ------
    UsageError
        The spec, the name of the weights or their combination does not exist.
    DataError
        The checkpoint cannot be read, or importing the code fails.
    """
    if weights is not None and is_file(Path(weights)):
        if checkpoint is not None:
            raise UsageError("--weights: found a file and --checkpoint; give one of them")
        checkpoint, weights = weights, None
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and weights is not None:
        raise UsageError("--weights: found --checkpoint, too; give one of them")
    if isinstance(spec, nn.Module):
        plain = getattr(spec, "_orig_mod", spec)  # what torch.compile wrapped
        builder: Builder = InMemory(spec, type(plain).__name__)
        spec = builder.name
    else:
        builder = _builder(spec, path, weights)
    remarks: tuple[str, ...] = ()
    if isinstance(builder, TorchvisionNetwork) and path is not None:
        builder, known, remarks = _recognised(builder, path)
    else:
        known = builder.preprocessing()
    if isinstance(builder, TimmNetwork) and not builder.has_published_weights:
        remarks = _timm_default(builder, known, mean)
    if weights == RANDOM:
        remarks = (*remarks, f"random weights, seed {seed}: expect accuracy at chance level")
    elif class_count is not None:
        raise UsageError("class_count: only for random weights; a checkpoint determines its own")
    kin = builder.network.architecture if isinstance(builder, Reference) else None
    chosen = builder.name if name is None else name
    if not chosen.strip():
        raise UsageError("--name: expected a name, found none")
    kin = architecture or kin or chosen
    for option, text in (("--name", chosen), ("--architecture", kin)):
        if not is_harmless(text):
            raise UsageError(
                f"{option}: expected a name without control characters, found {text!r}"
            )
    preprocessing = _preprocessing(known, mean, std, resize, crop, interpolation)
    return NetworkSource(
        spec,
        chosen,
        kin,
        path,
        weights,
        preprocessing,
        builder,
        class_count,
        seed,
        remarks,
    )


def described_source(checkpoint: Path) -> NetworkSource:
    """Return the network described in a checkpoint by ``ptqdb train``.

    Raises
    ------
    DataError
        The file cannot be read, or does not name its network.
    """
    description = read_description(checkpoint)
    if description is None:
        raise DataError(
            f"expected a checkpoint written by 'ptqdb train', found no description in "
            f"{checkpoint}; give --network, too"
        )
    # Any other name would import foreign code.
    if description.name not in REFERENCE_NETWORKS:
        raise DataError(
            f"expected the name of a reference network in {checkpoint}, found "
            f"{description.name!r}; give --network, too"
        )
    return network_source(description.name, checkpoint=checkpoint)


def _builder(spec: str, checkpoint: Path | None, weights: str | None) -> Builder:
    """Return the builder of a spec; `weights` only names published ones."""
    check_spec(spec, has_checkpoint=checkpoint is not None, weights=weights)
    zoo, separator, name = spec.partition(":")
    if separator and zoo in ZOOS:
        kind = TorchvisionNetwork if zoo == "torchvision" else TimmNetwork
        return kind(name, None if weights == RANDOM else weights)
    return find_factory(spec) if separator else _reference(spec, checkpoint)


def _reference(spec: str, checkpoint: Path | None) -> Reference:
    network = reference_network(spec)
    description = None if checkpoint is None else read_description(checkpoint)
    if description is not None and description.name != network.name:
        raise DataError(
            f"expected a checkpoint of {network.name}, found one of {description.name} in "
            f"{checkpoint}; give --network {description.name}"
        )
    if description is not None and checkpoint is not None:
        _require_as_large(network, description, checkpoint)
    return Reference(network, description)


def _require_as_large(
    network: ReferenceNetwork, description: NetworkDescription, checkpoint: Path
) -> None:
    """Raise before allocating memory if a description claims more parameters than the file has."""
    described = network.element_count(description.width, description.class_count)
    held = element_count(checkpoint)
    if described > 2 * held:
        raise DataError(
            f"{checkpoint} describes a {network.name} of width {description.width:g} with "
            f"{description.class_count} classes, which has {described} params, and holds {held}; "
            "save the weights again without the description"
        )


def _recognised(
    network: TorchvisionNetwork, checkpoint: Path
) -> tuple[TorchvisionNetwork, Preprocessing | None, tuple[str, ...]]:
    """The hash of a file published by torchvision identifies its preprocessing."""
    published = network.published_as(checkpoint_sha256(checkpoint))
    if published is None:
        return network, None, ()
    known = TorchvisionNetwork(network.name, published).preprocessing()
    remark = f"{checkpoint.name} is torchvision's {published}: its transforms are used"
    return replace(network, transforms_input=True), known, (remark,)


def _timm_default(
    network: TimmNetwork, known: Preprocessing | None, mean: Sequence[float] | None
) -> tuple[str, ...]:
    """A user's weights for a timm network default to timm's normalization."""
    if known is None or mean is not None:
        return ()
    return (
        f"normalized as timm's own weights of {network.name}: mean {known.mean}, std {known.std}; "
        "override with --mean and --std",
    )


def _preprocessing(
    known: Preprocessing | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    resize: int | None,
    crop: int | None,
    interpolation: str | None,
) -> Preprocessing | None:
    """The user's settings, with those of the weights as defaults."""
    require_both(mean, std)
    geometry = Geometry() if known is None else known.geometry
    if resize is not None:
        geometry = replace(geometry, resize=resize)
    if crop is not None:
        geometry = replace(geometry, crop=crop)
    if interpolation is not None:
        geometry = replace(geometry, interpolation=interpolation)
    if mean is not None and std is not None:
        return Preprocessing(tuple(mean), tuple(std), geometry)
    return None if known is None else replace(known, geometry=geometry)
