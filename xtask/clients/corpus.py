"""corpus.py DIR MEGABYTES SOURCE...: real text for real clients, out of the source folders named.

Writes DIR/lines.txt (a message a line), DIR/blocks-4096.bin and DIR/blocks-16384.bin (a message a block) in the shares
30, 60 and 10 percent. Prints one JSON object: per file the number of messages and the SHA-256 of every message followed
by a newline, which is what a reader that prints messages produces.
"""
import hashlib, json, os, sys

where, megabytes, sources = sys.argv[1], int(sys.argv[2]), sys.argv[3:]


def texts():
    found = []
    for source in sources:
        for folder, folders, names in os.walk(source):
            folders.sort()
            found += [os.path.join(folder, n) for n in sorted(names) if n.endswith((".rs", ".md", ".c", ".h", ".toml"))]
    if not found:
        sys.exit(f"no text in {sources}")
    turn = 0
    while True:
        turn += 1
        for path in found:
            with open(path, "rb") as f:
                yield b"== %d %s\n" % (turn, os.path.basename(path).encode()) + f.read().replace(b"\r", b"")


def lines(text):
    for line in text.split(b"\n"):
        try:
            line.decode()
        except UnicodeDecodeError:
            continue
        if line and len(line) < 100_000:
            yield line


stream, result = texts(), {}
with open(os.path.join(where, "lines.txt"), "wb") as out:
    size = count = 0
    digest = hashlib.sha256()
    while size < megabytes * 300_000:
        part = list(lines(next(stream)))
        block = b"\n".join(part) + b"\n" if part else b""
        out.write(block)
        digest.update(block)
        size += len(block)
        count += len(part)
    result["lines.txt"] = {"messages": count, "bytes": size, "sha256": digest.hexdigest()}
for block, share in ((4096, 600_000), (16384, 100_000)):
    name = f"blocks-{block}.bin"
    with open(os.path.join(where, name), "wb") as out:
        size = count = 0
        digest = hashlib.sha256()
        rest = b""
        while size < megabytes * share:
            rest += next(stream)
            whole = len(rest) // block * block
            for at in range(0, whole, block):
                digest.update(rest[at : at + block] + b"\n")
            out.write(rest[:whole])
            size += whole
            count += whole // block
            rest = rest[whole:]
    result[name] = {"messages": count, "bytes": size, "sha256": digest.hexdigest()}
print(json.dumps(result))
