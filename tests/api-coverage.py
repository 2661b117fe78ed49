#!/usr/bin/env python3
"""Which operations, statuses and error codes of openapi.yaml no API test has provoked.

usage: api-coverage.py openapi.yaml COVERAGE     COVERAGE: lines "operation status code" (tests/lib/client.c)
"""
import sys

import yaml

METHODS = {"get", "head", "put", "post", "patch", "delete"}


def main(argv):
    with open(argv[1], encoding="utf-8") as stream:
        doc = yaml.safe_load(stream)
    with open(argv[2], encoding="utf-8") as stream:
        seen = {tuple(line.split()) for line in stream if line.strip()}
    answered = {(operation, status) for operation, status, _ in seen}
    coded = {(operation, code) for operation, _, code in seen}
    missing = []
    wanted = 0
    for path, item in doc["paths"].items():
        for method, op in item.items():
            if method not in METHODS:
                continue
            name = op["operationId"]
            # What every operation may answer is provoked once (x-common-codes, below); invalid everywhere.
            codes = set(op["x-codes"]) | {"invalid"}
            good = [status for status in op["responses"] if status < "400"]
            wanted += len(good) + len(codes)
            missing += [f"{name}: never {status}" for status in good if (name, status) not in answered]
            if method != "head":
                missing += [f"{name}: never {code}" for code in sorted(codes) if (name, code) not in coded]
    for code in doc["x-common-codes"] + doc["x-anywhere-codes"]:
        if code != "internal" and code not in {code for _, code in coded}:
            missing.append(f"nobody: never {code}")
    for line in missing:
        print(f"coverage: {line}", file=sys.stderr)
    print(f"coverage: {wanted - len(missing)} of {wanted} answers of the API are provoked by tests")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
