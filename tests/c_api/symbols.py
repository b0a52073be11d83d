"""The dynamic symbols of libcgx.so are exactly the functions of cgx.h: nothing missing, nothing else let out.

    python3 symbols.py NM HEADER LIBRARY
"""
import re
import subprocess
import sys

nm, header, library = sys.argv[1:]
text = re.sub(r"/\*.*?\*/", "", open(header).read(), flags=re.S)
declared = set(re.findall(r"CGX_API[^;(]*?(cgx_\w+)\(", text))
lines = subprocess.run([nm, "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout.splitlines()
exported = {line.split()[-1].split("@")[0] for line in lines if line.split()[-2] != "A"}
missing, extra = sorted(declared - exported), sorted(exported - declared)
print(f"{len(declared)} functions in the header, {len(exported)} symbols in the library")
if missing or extra or not declared:
    sys.exit(f"FAILED: missing {missing}, not in the header {extra}")
