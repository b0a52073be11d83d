"""What programs built against cgx.h rely on does not change unnoticed: the header, the library's dynamic symbols and
the list in abi.txt (every function's signature, every struct's fields in order, every enumerator's value) agree, all ways.

    python3 symbols.py NM HEADER LIBRARY ABI_LIST           compares
    python3 symbols.py NM HEADER LIBRARY ABI_LIST --write   writes the list: after an addition, which is compatible. A line
                                                            that changes or goes breaks programs: it needs a new soname.
"""

import difflib
import pathlib
import re
import subprocess
import sys


def squeeze(text):
    return re.sub(r"\s+", " ", text).strip()


def declared(header):
    """The header's interface, one line each, and the names of its functions."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", header, flags=re.S)
    functions = [squeeze(match) for match in re.findall(r"^CGX_API ([^;]*?);", text, flags=re.S | re.M)]
    lines = [f"function {one}" for one in functions]
    for fields, name in re.findall(r"typedef struct \w+ \{([^}]*)\} (\w+);", text):
        lines.append(f"struct {name}: {'; '.join(squeeze(one) for one in fields.split(';') if one.strip())}")
    for values, name in re.findall(r"typedef enum \w+ \{([^}]*)\} (\w+);", text):
        lines.append(f"enum {name}: {squeeze(values)}")
    lines += [f"callback {squeeze(one)}" for one in re.findall(r"typedef ([^;{}]*\(\*\w+\)[^;]*);", text)]
    return sorted(lines), {re.search(r"(cgx_\w+)\(", one).group(1) for one in functions}


def exported(nm, library):
    """Name and version of each dynamic symbol that the library defines; not the versions themselves."""
    command = [nm, "-D", "--defined-only", "--with-symbol-versions", library]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return {line.split()[-1] for line in lines if line.split()[-2] != "A"}


def soname(library):
    text = subprocess.run(["objdump", "-p", library], capture_output=True, text=True).stdout
    found = re.search(r"SONAME\s+(\S+)", text)
    return found.group(1) if found else "none"


def main():
    nm, header, library, abi = sys.argv[1:5]
    lines, functions = declared(pathlib.Path(header).read_text())
    symbols = exported(nm, library)
    versioned = {f"{name}@@CGX_0.1" for name in functions}
    print(f"{len(functions)} functions in the header, {len(symbols)} symbols in the library")
    if not functions or versioned != symbols:
        missing, extra = sorted(versioned - symbols), sorted(symbols - versioned)
        sys.exit(f"FAILED: missing in the library {missing}, not in the header {extra}")
    now = [f"soname {soname(library)}", *lines]
    if "--write" in sys.argv[5:]:
        pathlib.Path(abi).write_text("\n".join(now) + "\n")
        return
    listed = pathlib.Path(abi).read_text().splitlines()
    difference = list(difflib.unified_diff(listed, now, "abi.txt", "cgx.h and libcgx.so", lineterm="", n=0))
    if difference:
        print("\n".join(difference))
        sys.exit(
            "FAILED: the interface is not what abi.txt lists. Where the difference only adds (fields: at the end), run\n"
            f"  python3 tests/c_api/symbols.py nm include/cgx/cgx.h {library} tests/c_api/abi.txt --write"
        )


main()
