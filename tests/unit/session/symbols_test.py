"""usage: symbols_test.py NM LIBMUSTER: every symbol that the library defines for others belongs to namespace muster."""
import re
import subprocess
import sys

nm, library = sys.argv[1:]
lines = subprocess.run([nm, "-D", "-C", "--defined-only", library], check=True, capture_output=True, text=True).stdout.splitlines()
names = [line.split(None, 2)[2] for line in lines]
strangers = [name for name in names if not re.match(r"((typeinfo|typeinfo name|vtable) for )?muster::", name)]
wanted = ["muster::Session::Create()", "muster::Session::Create(muster::SessionOptions const&)", "typeinfo for muster::Session"]
missing = [name for name in wanted if name not in names]
print(f"{len(names)} symbols; strangers: {strangers[:20]}; missing: {missing}")
sys.exit(1 if strangers or missing else 0)
