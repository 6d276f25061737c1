"""Random transformers and recurrent networks."""

from hypothesis import strategies as st

from morphs.graph.arch import ArchGraph
from morphs.graph.ops import (
    Activation,
    Add,
    Attention,
    Concat,
    Conv2d,
    Dropout,
    Embedding,
    Held,
    Input,
    LayerNorm,
    Linear,
    Mean,
    Multiply,
    Output,
    PActivation,
    Parameter,
    Permute,
    Recurrent,
    Reshape,
    RMSNorm,
    Scale,
    Select,
    Slice,
    Unembedding,
)  # fmt: skip
from strategies.builder import Builder, operator


def token_act(b: Builder, x: str) -> str:
    """A non-linearity of tokens."""
    fn = b.pick("relu", "gelu", "silu", "tanh")
    if b.pick(True, False, False):
        return b.add(PActivation(fn, (), per_channel=True, axis=-1), x)
    return b.add(Activation(fn), x)


def token_norm(b: Builder, x: str) -> str:
    affine = b.pick(True, True, False)
    return b.add(b.pick(LayerNorm(affine=affine), LayerNorm(bias=False), RMSNorm(affine=affine)), x)


def attend(b: Builder, x: str) -> str:
    """Attention: fused or separate projections, grouped queries, with a shortcut or without."""
    tokens, width = b.shapes[x]
    heads, size = b.pick(1, 2, 3), b.pick(1, 2)
    shared = b.pick(1, 1, 2)
    queries = heads * shared

    def split(read: str, count: int) -> str:
        return b.add(Permute((1, 0, 2)), b.add(Reshape((tokens, count, size), 1), read))

    read = token_norm(b, x) if b.pick(True, True, False) else x
    if shared == 1 and b.pick(True, False):
        fused = b.add(Linear(3 * heads * size), read)
        turned = b.add(Permute((1, 2, 0, 3)), b.add(Reshape((tokens, 3, heads, size), 2), fused))
        parts = [b.add(Select(place), turned) for place in range(3)]
    elif b.pick(True, False):
        fused = b.add(Linear((queries + 2 * heads) * size), read)
        cuts = (0, queries, queries + heads, queries + 2 * heads)
        pieces = [b.add(Slice(cuts[i] * size, cuts[i + 1] * size), fused) for i in range(3)]
        parts = [split(piece, count) for piece, count in zip(pieces, (queries, heads, heads), strict=True)]
    else:
        counts = (queries, heads, heads)
        parts = [split(b.add(Linear(count * size, b.pick(True, False)), read), count) for count in counts]
    if size > 1 and b.pick(True, False, False):
        parts[0] = b.add(LayerNorm(), parts[0])
    spelled = shared == 1 and b.pick(True, False, False)
    made = spelled_out(b, *parts) if spelled else b.add(Attention(causal=b.pick(True, False)), *parts)
    out = b.add(Permute((1, 0, 2)), made)
    out = b.add(Linear(width, b.pick(True, False)), b.add(Reshape((tokens, queries * size)), out))
    out = b.add(Scale(axis=-1), out) if b.pick(True, False, False) else out
    return b.add(Add(), x, out) if b.pick(True, True, False) else out


def spelled_out(b: Builder, q: str, k: str, v: str) -> str:
    """Attention by operators, head by head."""
    _, tokens, size = b.shapes[q]
    scores = operator(b, "matmul.default", "", (-1, 0, tokens, tokens), q, b.add(Permute((0, 2, 1)), k))
    mask = b.add(Held((1, 1, tokens, tokens), "buffer"))
    scores = operator(b, "add.Tensor", "", (-1, 0, tokens, tokens), scores, mask)
    chances = operator(b, "softmax.int", "-1", (-1, 0, 0, tokens), scores)
    return operator(b, "matmul.default", "", (-1, 0, *b.pick((0, 0), (tokens, size))), chances, v)


def product(b: Builder, x: str) -> str:
    """Attention of one head by operators: the columns of its values are a width."""
    tokens, width = b.shapes[x]
    size = b.width()
    q, k, v = (b.add(Linear(n, b.pick(True, False)), x) for n in (size, size, b.width()))
    scores = operator(b, "matmul.default", "", (-1, 0, 0), q, b.add(Permute((1, 0)), k))
    made = operator(
        b, "matmul.default", "", (-1, 0, 0), operator(b, "softmax.int", "-1", (-1, 0, tokens), scores), v
    )
    return b.add(Add(), x, b.add(Linear(width), token_act(b, made)))


def feed(b: Builder, x: str) -> str:
    """An MLP on tokens, gated or not, pre-norm, post-norm or plain."""
    read = token_norm(b, x) if b.pick(True, True, False) else x
    wide = b.draw(st.integers(1, 6))
    inner = token_act(b, b.add(Linear(wide, b.pick(True, False)), read))
    if b.pick(True, False):
        inner = b.add(Multiply(), inner, b.add(Linear(wide), read))
    inner = b.add(Dropout(0.2), inner) if b.pick(True, False, False) else inner
    out = b.add(Add(), x, b.add(Linear(b.shapes[x][1]), inner))
    return token_norm(b, out) if b.pick(True, False, False) else out


def mix(b: Builder, x: str) -> str:
    """Linear layers across tokens, as in MLP-Mixer."""
    tokens = b.shapes[x][0]
    inner = token_act(b, b.add(Linear(b.draw(st.integers(1, 4))), b.add(Permute((1, 0)), x)))
    return b.add(Add(), x, b.add(Permute((1, 0)), b.add(Linear(tokens), inner)))


def recur(b: Builder, x: str) -> str:
    """A recurrent layer, with a shortcut where its width allows one."""
    width, layers = b.shapes[x][1], b.pick(1, 1, 2)
    features = b.pick(width, b.width())
    fields = {"layers": layers, "bias": b.pick(True, False), "dropout": 0.2 if layers > 1 else 0.0}
    out = b.add(Recurrent(features, b.pick("lstm", "gru", "tanh", "relu"), **fields), x)
    return b.add(Add(), x, out) if features == width and b.pick(True, False) else out


@st.composite
def token_graphs(draw) -> ArchGraph:
    """A transformer of one to three blocks on words or patches, its embedding tied or not."""
    b = Builder(draw)
    tokens, width = draw(st.integers(2, 4)), draw(st.integers(2, 6))
    words = b.pick(True, False)
    if words:
        x = b.add(Input((tokens,), 7), name="x")
        x = first = b.add(Embedding(7, width), x)
    else:
        image = b.add(Conv2d(width, (2, 2), (2, 2)), b.add(Input((3, 4, 2 * tokens)), name="x"))
        x = first = b.add(Permute((1, 0)), b.add(Reshape((width, 2 * tokens)), image))
        x = b.add(Concat(axis=0), b.add(Parameter((1, width)), name="cls"), x) if b.pick(True, False) else x
    if b.pick(True, False):
        places = Parameter(b.shapes[x], source=b.pick("parameter", "parameter", "buffer", "constant"))
        x = b.add(Add(), x, b.add(places, name="pos"))
    x = (
        operator(b, "roll.default", "[1],[1]", (-1, b.shapes[x][0], 0), x)
        if b.pick(True, False, False)
        else x
    )
    for block in draw(
        st.lists(st.sampled_from((attend, feed, feed, mix, product, recur)), min_size=1, max_size=3)
    ):
        x = block(b, x)
    x = token_norm(b, x) if b.pick(True, True, False) else x
    if words and b.shapes[x][-1] == width and b.pick(True, False):
        x = b.add(Unembedding(7), x, owner=first)
    else:
        last = Select(
            b.shapes[x][0] - 1
        )  # the first sees itself alone where attention is causal: nothing to learn
        x = b.add(b.pick(Mean((0,)), last), x) if b.pick(True, False) else x
        x = b.add(Linear(3), x)
    b.add(Output(), x, name="out")
    return ArchGraph(b.nodes)
