"""Small networks beyond images of 2-d convolutions, in the short text form: transformers, signals, volumes."""


def heads(name: str, source: str, tokens: int, count: int, size: int) -> str:
    return f"""
    {name}s = reshape({source}, size=[{tokens}, {count}, {size}], width=1)
    {name}h = permute({name}s, order=[1, 0, 2])"""


def merged(name: str, tokens: int, features: int) -> str:
    return f"""
    {name}p = permute({name}, order=[1, 0, 2])
    {name}m = reshape({name}p, size=[{tokens}, {features}])"""


def gpt_block(x: str, n: int) -> str:
    """Pre-norm, one linear layer for queries, keys and values, cut by slices."""
    return f"""
    a{n} = layer_norm({x}); w{n} = linear(a{n}, features=24)
    q{n} = slice(w{n}, start=0, stop=8); k{n} = slice(w{n}, start=8, stop=16); v{n} = slice(w{n}, start=16, stop=24)
    {heads(f"q{n}", f"q{n}", 5, 2, 4)}{heads(f"k{n}", f"k{n}", 5, 2, 4)}{heads(f"v{n}", f"v{n}", 5, 2, 4)}
    t{n} = attention(q{n}h, k{n}h, v{n}h, causal=true){merged(f"t{n}", 5, 8)}
    o{n} = linear(t{n}m, features=8); x{n} = add({x}, o{n})
    b{n} = layer_norm(x{n}); f{n} = linear(b{n}, features=12); g{n} = gelu(f{n}); h{n} = linear(g{n}, features=8)
    y{n} = add(x{n}, h{n})"""


GPT = f"""
    x = input(size=[5], tokens=11); e = embedding(x, count=11, features=8); p = parameter(size=[5, 8])
    s = add(e, p){gpt_block("s", 1)}{gpt_block("y1", 2)}
    z = layer_norm(y2); l = unembedding(z, count=11, owner=e); out = output(l)"""

VIT = f"""
    x = input(size=[3, 8, 8]); c = conv2d(x, channels=8, kernel=4, stride=4); r = reshape(c, size=[8, 4])
    t = permute(r, order=[1, 0]); k = parameter(size=[1, 8]); j = concat(k, t, axis=0); p = parameter(size=[5, 8])
    s = add(j, p); a = layer_norm(s); w = linear(a, features=24); w5 = reshape(w, size=[5, 3, 2, 4], width=2)
    wp = permute(w5, order=[1, 2, 0, 3]); q = select(wp, index=0); kk = select(wp, index=1); v = select(wp, index=2)
    u = attention(q, kk, v){merged("u", 5, 8)}
    o = linear(um, features=8); os = scale(o, axis=-1); y = add(s, os); b = layer_norm(y); f = linear(b, features=12)
    g = gelu(f); h = linear(g, features=8); z = add(y, h); n = layer_norm(z); first = select(n, index=0, axis=0)
    l = linear(first, features=3); out = output(l)"""

LLAMA = f"""
    x = input(size=[5], tokens=7); e = embedding(x, count=7, features=8); a = rms_norm(e)
    q = linear(a, features=16, bias=false); k = linear(a, features=8, bias=false); v = linear(a, features=8, bias=false)
    {heads("q", "q", 5, 4, 4)}{heads("k", "k", 5, 2, 4)}{heads("v", "v", 5, 2, 4)}
    qn = rms_norm(qh); t = attention(qn, kh, vh, causal=true){merged("t", 5, 16)}
    o = linear(tm, features=8, bias=false); y = add(e, o); b = rms_norm(y)
    g1 = linear(b, features=6, bias=false); s = silu(g1); g2 = linear(b, features=6, bias=false); m = multiply(s, g2)
    d = linear(m, features=8, bias=false); z = add(y, d); n = rms_norm(z)
    l = linear(n, features=7, bias=false); out = output(l)"""

SIGNAL = """
    x = input(size=[2, 16]); c = conv(x, channels=6, kernel=[3], padding=[1]); n = batch_norm(c); r = relu(n)
    p = pool(r, how=max, kernel=[2]); d = conv(p, channels=6, kernel=[3], padding=[1], groups=6)
    u = conv_transpose(d, channels=4, kernel=[2], stride=[2]); t = tanh(u); g = mean(t, axes=[1])
    l = linear(g, features=3); out = output(l)"""

VOLUME = """
    x = input(size=[1, 4, 4, 4]); c = conv(x, channels=4, kernel=[3, 3, 3], padding=[1, 1, 1]); n = batch_norm(c)
    r = relu(n); p = pool(r, how=avg, kernel=[2, 2, 2]); d = conv(p, channels=6, kernel=[1, 1, 1]); f = flatten(d)
    l = linear(f, features=3); out = output(l)"""

GROUPED = """
    x = input(size=[3, 6, 6]); c = conv2d(x, channels=6, kernel=3, padding=1); n = group_norm(c, parts=3); r = relu(n)
    d = conv2d(r, channels=5, kernel=3, padding=1); m = group_norm(d, parts=5); s = relu(m)
    e = conv2d(s, channels=4, kernel=1); k = group_norm(e, parts=1); g = adaptive_avg_pool2d(k); f = flatten(g)
    l = linear(f, features=3); out = output(l)"""

MIXER = """
    x = input(size=[3, 4, 4]); c = conv2d(x, channels=6, kernel=2, stride=2); r = reshape(c, size=[6, 4])
    t = permute(r, order=[1, 0]); a = layer_norm(t); ap = permute(a, order=[1, 0]); f = linear(ap, features=5)
    g = gelu(f); h = linear(g, features=4); hp = permute(h, order=[1, 0]); y = add(t, hp); b = layer_norm(y)
    i = linear(b, features=7); j = gelu(i); k = linear(j, features=6); z = add(y, k); m = mean(z, axes=[0])
    l = linear(m, features=3); out = output(l)"""

NETWORKS = {
    "gpt": GPT, "vit": VIT, "llama": LLAMA, "signal": SIGNAL, "volume": VOLUME, "grouped": GROUPED, "mixer": MIXER
}  # fmt: skip
