"""Our towers, tokenizer and preprocessing against transformers and Pillow, with random weights."""

from __future__ import annotations

import random
import string

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from promptad.clip.backbone import Backbone, load_backbone
from promptad.clip.features import FeatureRequest, LocalStream
from promptad.clip.preprocess import Preprocess, normalise
from promptad.clip.tokenizer import clip_tokenizer, clip_vocabulary
from promptad.prompts.layout import PromptSet, Slot

ATOL = 1e-5
# Two architectures: (vision, text, projection, activation). The second has OpenCLIP's exact GELU, other heads and depth.
ARCHITECTURES = {
    "quick_gelu": dict(vision=(64, 4, 4, 16, 64), text=(48, 3, 3), embed=40, act="quick_gelu"),
    "gelu": dict(vision=(96, 6, 3, 8, 40), text=(64, 5, 2), embed=56, act="gelu"),
}


def reference(name: str) -> CLIPModel:
    spec = ARCHITECTURES[name]
    width, layers, heads, patch, side = spec["vision"]
    t_width, t_layers, t_heads = spec["text"]
    config = CLIPConfig(
        projection_dim=spec["embed"],
        vision_config=dict(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * width,
            patch_size=patch, image_size=side, hidden_act=spec["act"], projection_dim=spec["embed"],
        ),
        text_config=dict(
            hidden_size=t_width, num_hidden_layers=t_layers, num_attention_heads=t_heads, intermediate_size=4 * t_width,
            vocab_size=49408, hidden_act=spec["act"], projection_dim=spec["embed"], bos_token_id=49406,
            eos_token_id=49407,
        ),
    )  # fmt: skip
    torch.manual_seed(sum(map(ord, name)))
    model = CLIPModel(config).eval()
    for parameter in model.parameters():  # the default init is too small to show an error
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def openclip_names(model: CLIPModel) -> dict[str, torch.Tensor]:
    """The same weights under OpenCLIP's names, written here from its published layout."""
    state, out = model.state_dict(), {}
    tops = {
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.pre_layrnorm": "visual.ln_pre",
        "vision_model.post_layernorm": "visual.ln_post",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm": "ln_final",
    }
    inner = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        if name in tops:
            out[tops[name]] = tensor
        elif stem in tops:
            out[f"{tops[stem]}.{kind}"] = tensor
        elif ".encoder.layers." in name:
            tower, rest = name.split(".encoder.layers.")
            number, rest = rest.split(".", 1)
            prefix = "visual.transformer" if tower == "vision_model" else "transformer"
            base = f"{prefix}.resblocks.{number}."
            part, kind = rest.rsplit(".", 1)
            if part in inner:
                out[f"{base}{inner[part]}.{kind}"] = tensor
            elif part == "self_attn.q_proj":
                rows = [state[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
                out[f"{base}attn.in_proj_{kind}"] = torch.cat(rows)
    out["visual.proj"] = state["visual_projection.weight"].T
    out["text_projection"] = state["text_projection.weight"].T
    out["logit_scale"] = state["logit_scale"]
    return {name: tensor.contiguous().clone() for name, tensor in out.items()}


@pytest.fixture(
    scope="module", params=[(a, n) for a in ARCHITECTURES for n in ("hugging_face", "openclip")], ids="-".join
)
def pair(request, tmp_path_factory) -> tuple[CLIPModel, Backbone]:
    architecture, naming = request.param
    model, folder = reference(architecture), tmp_path_factory.mktemp("weights")
    if naming == "hugging_face":
        model.save_pretrained(folder)
        return model, load_backbone(folder)
    spec = ARCHITECTURES[architecture]
    save_file(openclip_names(model), folder / "open_clip_model.safetensors")
    heads = {"vision": spec["vision"][2], "text": spec["text"][2]}
    quick = "true" if spec["act"] == "quick_gelu" else "false"
    (folder / "open_clip_config.json").write_text(
        f'{{"model_cfg": {{"quick_gelu": {quick}, "vision_cfg": {{"heads": {heads["vision"]}}}, '
        f'"text_cfg": {{"heads": {heads["text"]}}}}}}}'
    )
    return model, load_backbone(folder)


@torch.no_grad()
def test_image_features_and_every_hidden_state_equal_transformers(pair):
    model, backbone = pair
    side = backbone.sizes.vision.image_size
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    expected = model.vision_model(images, output_hidden_states=True)
    states = list(backbone.vision.streams(backbone.vision.embed(images), LocalStream(1)))
    assert len(states) == len(expected.hidden_states) - 1
    for (_, ours, _), theirs in zip(states, expected.hidden_states[1:], strict=True):
        torch.testing.assert_close(ours, theirs, atol=ATOL, rtol=0)
    layers = tuple(range(1, backbone.sizes.vision.layers + 1))
    features = backbone.vision(images, FeatureRequest(layers, LocalStream(1)))
    projected = model.visual_projection(expected.pooler_output)
    torch.testing.assert_close(features.image, projected, atol=ATOL, rtol=0)
    for layer in layers:
        torch.testing.assert_close(features.taps[layer], expected.hidden_states[layer][:, 1:], atol=ATOL, rtol=0)


@torch.no_grad()
def test_text_features_equal_transformers_although_ours_stop_at_the_end_token(pair):
    model, backbone = pair
    texts = ["a", "a photo of a metal nut with scratch.", "damaged printed circuit board", "x " * 70]
    ours = backbone.encode_texts(texts)
    rows, eot = backbone.tokenizer.batch(texts)
    ids = torch.tensor([row + [49407] * (77 - len(row)) for row in rows])
    expected = model.text_model(ids, output_hidden_states=True)
    torch.testing.assert_close(ours, model.text_projection(expected.pooler_output), atol=ATOL, rtol=0)
    # Every hidden state up to the end token, too.
    hidden = backbone.text.token_embedding(ids) + backbone.text.position_embedding
    for block, theirs in zip(backbone.text.blocks, expected.hidden_states[1:], strict=True):
        hidden = block(hidden, causal=True)
        for row, end in enumerate(eot):
            torch.testing.assert_close(hidden[row, : end + 1], theirs[row, : end + 1], atol=ATOL, rtol=0)


def reference_tokenizer() -> CLIPTokenizer:
    vocabulary, merges = clip_vocabulary()
    return CLIPTokenizer(vocab=vocabulary, merges=merges)


def strings() -> list[str]:
    """More than 1,000 strings: inspection words, punctuation, numbers, and random unicode of many scripts."""
    rng = random.Random(7)
    nouns = [
        "bottle",
        "metal nut",
        "cookie",
        "PCB",
        "Ø12 bolt",
        "gear-wheel",
        "zähler",
        "шестерня",
        "螺丝",
        "ネジ",
        "برغي",
        "naïve café",
        "🔩 nut",
        "o'ring",
    ]
    states = [
        "with scratch",
        "damaged",
        "isn't good",
        "0.05mm burr",
        "50% covered",
        "#4",
        "A/B",
        "(left)",
        '"quoted"',
        "tab\there",
        "two  spaces",
    ]
    fixed = [f"{a} {b}" for a in nouns for b in states] + [f"{b}, {a}." for a in nouns for b in states]
    fixed += [
        "",
        " ",
        "\n",
        "<|endoftext|>",
        "it's they'll we've I'd I'm you're don't",
        "ﬁ ligature",
        "e\u0301 e\u0301",
        "İ ß",
    ]
    pools = [
        string.printable,
        "áéíóúñçøåßþæ",
        "абвгдежз",
        "αβγδε",
        "漢字仮名交じり文",
        "한국어",
        "אבגד",
        "مرحبا",
        "🙂🔧🇩🇪",
        "١٢٣",
    ]
    mixed = ["".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(1, 24))) for _ in range(900)]
    return fixed + mixed


def test_tokenizer_equals_transformers_on_more_than_a_thousand_strings():
    ours, theirs = clip_tokenizer(), reference_tokenizer()
    texts = strings()
    assert len(texts) > 1000
    wrong = [t for t in texts if [ours.start, *ours.words(t), ours.end] != theirs(t)["input_ids"]]
    assert not wrong, wrong[:5]


@pytest.mark.parametrize("size", [(300, 300), (640, 480), (333, 517)])
def test_preprocessing_equals_a_pillow_reference(size):
    rng = np.random.default_rng(3)
    photo = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

    def reference(image: Image.Image) -> np.ndarray:
        return ((np.asarray(image, np.float64) / 255 - mean) / std).transpose(2, 0, 1)

    image = Image.fromarray(photo)
    squash = Preprocess(240, fit="squash")
    ours = normalise(squash.pixels(photo, squash.views(*photo.shape[:2])[0]), mean, std)
    np.testing.assert_allclose(ours, reference(image.resize((240, 240), Image.Resampling.BICUBIC)), atol=1e-5)

    # OpenCLIP's own: torchvision Resize(240) then CenterCrop(240), written out with Pillow.
    width, height = size
    short = min(size)
    target = (int(240 * width / short), int(240 * height / short))
    resized = image.resize(target, Image.Resampling.BICUBIC)
    left, top = round((target[0] - 240) / 2), round((target[1] - 240) / 2)
    crop = Preprocess(240, fit="crop")
    ours = normalise(crop.pixels(photo, crop.views(height, width)[0]), mean, std)
    np.testing.assert_allclose(ours, reference(resized.crop((left, top, left + 240, top + 240))), atol=1e-5)


@torch.no_grad()
def test_the_local_streams_equal_ones_built_from_the_layers_of_transformers(pair):
    """PromptAD (CVPR 2024), equations 4 to 7, with the projections of `CLIPModel` itself, head by head."""
    model, backbone = pair
    vision, side = model.vision_model, backbone.sizes.vision.image_size
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    states = vision(images, output_hidden_states=True).hidden_states
    heads, count = backbone.sizes.vision.heads, backbone.sizes.vision.layers
    for start in (1, 2, count):
        for kind in ("vv", "maskclip"):
            z = states[start - 1]
            for layer, original in zip(vision.encoder.layers[start - 1 :], states[start - 1 : -1], strict=True):
                values = layer.self_attn.v_proj(layer.layer_norm1(original))
                if kind == "vv":
                    rows = []
                    for v in values.chunk(heads, dim=-1):
                        scale = v.shape[-1] ** -0.5
                        rows.append(torch.softmax(v @ v.transpose(1, 2) * scale, dim=-1) @ v)
                    values = torch.cat(rows, dim=-1)
                z = z + layer.self_attn.out_proj(values)
            expected = model.visual_projection(vision.post_layernorm(z[:, 1:]))
            ours = backbone.vision(images, FeatureRequest((), LocalStream(start, kind))).patches
            torch.testing.assert_close(ours, expected, atol=ATOL, rtol=0)
    plain = backbone.vision(images, FeatureRequest((), LocalStream(1, "qk"))).patches
    expected = model.visual_projection(vision.post_layernorm(states[-1][:, 1:]))
    torch.testing.assert_close(plain, expected, atol=ATOL, rtol=0)


@torch.no_grad()
def test_prompts_of_words_and_learnable_tokens_equal_transformers(pair):
    """Assembled embeddings, and deep tokens that overwrite positions before later layers, over all 77 positions."""
    model, backbone = pair
    text, width = model.text_model, backbone.sizes.text.width
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(2, 4, width, generator=generator) * 0.1
    deep = [torch.randn(3, width, generator=generator) * 0.1]
    layouts = [[Slot("p", 0), "metal nut", "."], [Slot("p", 1), "metal nut with scratch", "."]]
    prompts = PromptSet(layouts, {"p": (2, 4)}, backbone)
    for sets in ([], deep):
        ours = backbone.text.encode_embeddings(prompts.assemble({"p": tokens}), prompts.eot, sets)
        for row, layout in enumerate(layouts):
            words = [i for part in layout[1:] for i in backbone.tokenizer.words(part)]
            ids = torch.tensor([[49406, *[0] * 4, *words, *[49407] * (72 - len(words))]])
            x = text.embeddings.token_embedding(ids)
            x[:, 1:5] = tokens[row]
            x = x + text.embeddings.position_embedding.weight
            mask = torch.full((77, 77), float("-inf")).triu(1)[None, None]
            for number, layer in enumerate(text.encoder.layers):
                if sets and number == 1:
                    x = torch.cat([x[:, :1], sets[0][None], x[:, 4:]], dim=1)
                x = layer(x, attention_mask=mask)
                x = x[0] if isinstance(x, tuple) else x
            expected = model.text_projection(text.final_layer_norm(x[:, 5 + len(words)]))[0]
            torch.testing.assert_close(ours[row], expected, atol=ATOL, rtol=0)
