"""Transformers of tokens."""

from morphs import AddBlock, WidenAll, parse_graph
from morphs.errors import ShapeError
from search_spaces.space import Shape, Space

WIDTH, HEADS, HIDDEN = 32, 4, 64


def transformer(input_shape: Shape, outputs: int, tokens: int | None = None) -> Space:
    """Transformers of tokens (T,), from one block of attention and an MLP, which grow by such blocks and in width.

    Embeddings and learned positions; blocks with a norm before each part (Xiong et al., arXiv 2002.04745); the mean
    over all tokens is what is classified. Raises ShapeError for inputs that are not tokens.
    """
    if tokens is None or len(input_shape) != 1:
        raise ShapeError("it reads tokens, whole numbers (T,); give integers [N, T]")
    (length,) = input_shape
    split = "\n".join(
        f"""
        {name} = linear(n1, features={WIDTH})
        {name}_heads = reshape({name}, size=[{length}, {HEADS}, {WIDTH // HEADS}], width=1)
        {name}_turned = permute({name}_heads, order=[1, 0, 2])"""
        for name in ("query", "key", "value")
    )
    seed = parse_graph(f"""
        x = input(size=[{length}], tokens={tokens})
        e = embedding(x, count={tokens}, features={WIDTH})
        position = parameter(size=[{length}, {WIDTH}])
        s0 = add(e, position)
        n1 = layer_norm(s0)
        {split}
        a1 = attention(query_turned, key_turned, value_turned)
        turned = permute(a1, order=[1, 0, 2])
        merged = reshape(turned, size=[{length}, {WIDTH}])
        out1 = linear(merged, features={WIDTH})
        s1 = add(s0, out1)
        n2 = layer_norm(s1)
        fc1 = linear(n2, features={HIDDEN})
        g1 = gelu(fc1)
        out2 = linear(g1, features={WIDTH})
        s2 = add(s1, out2)
        n3 = layer_norm(s2)
        m = mean(n3, axes=[0])
        fc = linear(m, features={outputs})
        y = output(fc)
    """)
    return Space(
        seed,
        (
            (AddBlock, {"part": ("both",), "ratio": (2,)}),
            (WidenAll, {"factor": (1.25, 1.5), "how": ("zero",)}),
        ),
    )
