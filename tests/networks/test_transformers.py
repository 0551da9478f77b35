"""Vision transformers, measured whole: every attention's weights are layers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from collecting import images
from torch import nn

from ptqdb.collection.rows import delete_networks, write_network
from ptqdb.collection.shared_rows import ensure_dataset
from ptqdb.database import connect, query
from ptqdb.database.checks import check
from ptqdb.datasets.preprocessing import Preprocessing
from ptqdb.measurement.evaluation import NetworkEvaluation
from ptqdb.measurement.facts import EvaluationFacts, NetworkFacts
from ptqdb.measurement.network import NetworkMeasurement
from ptqdb.networks.checkpoints import TrainedNetwork
from ptqdb.quantization.formats import study_format

FORMATS = [study_format(name) for name in ("INT_8", "POT_4")]


FED = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def measured(module: nn.Module) -> NetworkMeasurement:
    trained = TrainedNetwork("toy", "toy", module.eval(), "0" * 64, FED)
    return NetworkMeasurement(
        trained,
        images(4, "train", seed=1),
        FORMATS,
        device=torch.device("cpu"),
    )


def evaluated(measurement: NetworkMeasurement) -> NetworkFacts:
    """The float facts, once the formats are seen to do something, the finer one less."""
    evaluation = NetworkEvaluation(measurement.network, images(6), FED, device=torch.device("cpu"))
    losses = []
    for known in FORMATS:
        coded = measurement.code(known)
        quantized = measurement.quantized_facts(coded, known)
        assert len(quantized) == len(measurement.float_facts().tensors)
        found = evaluation.of_codes(coded, known, "all")
        assert isinstance(found, EvaluationFacts)
        losses.append(found.kl_sum)
    assert 0 < losses[0] < losses[1]
    facts = measurement.float_facts()
    parts = sum(layer.params for layer in facts.layers)
    parts += sum(part.params for part in facts.unquantized)
    assert parts == facts.params
    return facts


def test_a_vision_transformer_of_torchvision() -> None:
    models: Any = pytest.importorskip(
        "torchvision.models.vision_transformer", reason="needs torchvision"
    )
    torch.manual_seed(0)
    module = models.VisionTransformer(
        image_size=32,
        patch_size=16,
        num_layers=2,
        num_heads=4,
        hidden_dim=32,
        mlp_dim=64,
        num_classes=10,
    )
    nn.init.normal_(module.heads.head.weight)
    facts = evaluated(measured(module))
    tokens, width = 5, 32  # four patches and the class
    block = [tokens * width * x for x in (3 * width, width, 64)] + [tokens * 64 * width]
    macs = [4 * 768 * width, *block, *block, width * 10]
    assert [layer.macs for layer in facts.layers] == macs
    assert facts.macs == sum(macs)
    found = {part.name: part for part in facts.unquantized}
    attention = found["encoder.layers.encoder_layer_1.self_attention"]
    assert (attention.kind, attention.params) == ("MultiheadAttention", 0)
    assert attention.macs == 2 * tokens * tokens * width
    assert sum(part.macs or 0 for part in facts.unquantized) == 2 * attention.macs
    norms = 5 * 2 * width
    assert sum(part.params for part in facts.unquantized) == norms + width + tokens * width


def test_shifted_windows_of_torchvision() -> None:
    models: Any = pytest.importorskip(
        "torchvision.models.swin_transformer", reason="needs torchvision"
    )
    torch.manual_seed(0)
    module = models.SwinTransformer(
        [4, 4], 16, [2, 2], [2, 4], [4, 4], stochastic_depth_prob=0.0, num_classes=10
    )
    nn.init.normal_(module.head.weight)
    measurement = measured(module)
    facts = evaluated(measurement)
    # 64 places of 16 channels, then 16 of 32: qkv, proj and the two of the perceptron
    first = [64 * 16 * x for x in (48, 16, 64, 64)]
    second = [16 * 32 * x for x in (96, 32, 128, 128)]
    macs = [64 * 48 * 16, *first, *first, 16 * 64 * 32, *second, *second, 32 * 10]
    assert [layer.macs for layer in facts.layers] == macs
    products = {part.name: part.macs for part in facts.unquantized if part.macs}
    # windows of 16 places: each place meets 16 others, for scores and for values
    assert products == {
        "features.1.0.attn": 2 * 64 * 16 * 16,
        "features.1.1.attn": 2 * 64 * 16 * 16,
        "features.3.0.attn": 2 * 16 * 16 * 32,
        "features.3.1.attn": 2 * 16 * 16 * 32,
    }
    assert any("LayerNorm x" in remark for remark in measurement.remarks)


def test_a_vision_transformer_of_timm(path: Path) -> None:
    timm: Any = pytest.importorskip("timm", reason="needs timm")
    torch.manual_seed(0)
    module = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=24, num_classes=10
    )
    nn.init.normal_(module.head.weight)
    facts = evaluated(measured(module))
    names = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
    blocks = [f"blocks.{i}.{name}" for i in range(2) for name in names]
    assert [layer.name for layer in facts.layers] == ["patch_embed.proj", *blocks, "head"]
    with connect(path, read_only=False) as connection:
        dataset_id = ensure_dataset(
            connection,
            name="toy",
            split="test",
            class_count=10,
            image_count=6,
            content_sha256="0",
        )
        write_network(connection, facts, dataset_id, dataset_id)
        wrong = [found.name for found in check(connection, "[lno]*") if not found.has_passed]
        assert wrong == []
        overview = query(connection, "select * from network_overview").row(0, named=True)
        params = sum(part.params for part in facts.unquantized)
        macs = sum(part.macs or 0 for part in facts.unquantized)
        assert overview["unquantized_param_share"] == pytest.approx(params / facts.params)
        assert overview["unquantized_mac_share"] == pytest.approx(macs / (macs + facts.macs))
        connection.execute("update unquantized_part set params = params + 1 where name = 'norm'")
        assert len(check(connection, "network_totals")[0].rows) == 1
        connection.execute("update unquantized_part set network_id = 9 where name = 'norm'")
        assert "unquantized_part" in check(connection, "orphan")[0].rows["table_name"]
        delete_networks(connection, [facts.name])
        left = query(connection, "select count(*) from unquantized_part where network_id <> 9")
        assert left.item() == 0
