#!/usr/bin/env python3
"""Writes manifest.json and sbom.json (CycloneDX 1.5) of a build. `describe` starts it and passes the settings as JSON on stdin."""
import json
import os
import sys
from hashlib import md5, sha256
from pathlib import Path
from urllib.parse import quote


def rows(path):
    """Returns the rows of packages.list: name, version, architecture, file."""
    return [dict(zip(("name", "version", "architecture", "file"), line.split())) for line in Path(path).read_text().splitlines()]


def digest(path):
    whole = sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            whole.update(block)
    return whole.hexdigest()


def npm_packages(folder):
    """Finds every package below node_modules, nested ones too, by its package.json."""
    found = {}
    for file in sorted(Path(folder).rglob("package.json")):
        if file.parent.parent.name != "node_modules" and file.parent.parent.parent.name != "node_modules":
            continue
        data = json.loads(file.read_text())
        if "name" in data and "version" in data:
            found[data["name"], data["version"]] = data
    return found


def deb_component(row, archives):
    distro = "debian-12"
    return {
        "type": "library", "name": row["name"], "version": row["version"],
        "purl": f"pkg:deb/debian/{quote(row['name'])}@{quote(row['version'], safe='')}?arch={row['architecture']}&distro={distro}",
        "hashes": [{"alg": "SHA-256", "content": digest(archives / row["file"])}],
    }


def npm_component(name, version, data, integrity):
    scope, _, short = name.rpartition("/")
    component = {"type": "library", "name": name, "version": version,
                 "purl": f"pkg:npm/{quote(scope, safe='') + '/' if scope else ''}{short}@{version}"}
    if isinstance(data.get("license"), str):
        key = "expression" if " " in data["license"] else "license"
        component["licenses"] = [{key: data["license"]} if key == "expression" else {key: {"id": data["license"]}}]
    if integrity and integrity.startswith("sha512-"):
        import base64
        component["hashes"] = [{"alg": "SHA-512", "content": base64.b64decode(integrity[7:]).hex()}]
    return component


def sbom(given, debian, extras, npm, integrities):
    archives = Path(given["cache"]) / "packages"
    components = [deb_component(row, archives) for row in debian + extras]
    components += [npm_component(n, v, d, integrities.get((n, v))) for (n, v), d in sorted(npm.items())]
    components.append(npm_component(given["node_package"], given["node_version"], {"license": "MIT"}, given["node_integrity"]))
    for component in components:
        component["bom-ref"] = component["purl"]
    identity = md5(f"{given['name']} {given['commit']}".encode()).hexdigest()
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "serialNumber": f"urn:uuid:{identity[:8]}-{identity[8:12]}-4{identity[13:16]}-8{identity[17:20]}-{identity[20:]}",
        "metadata": {
            "timestamp": given["time"],
            "component": {"type": "firmware", "name": "container-backup", "version": given["version"], "bom-ref": given["name"]},
        },
        "components": components,
    }


def manifest(given, debian, extras, npm):
    work, result = Path(given["work"]), Path(given["result"])
    files = {}
    for path in [work / "root.squashfs", work / "boot.ext4", work / "disk.img", *sorted(result.glob("*.img.zst")), *sorted(result.glob("*.raucb"))]:
        files[path.name] = {"size": path.stat().st_size, "sha256": digest(path)}
    return {
        "name": given["name"], "version": given["version"], "board": given["board"], "architecture": given["architecture"],
        "commit": given["commit"], "source_date_epoch": int(given["epoch"]), "release": given["release"] != "",
        "node": given["node_version"], "rauc_compatible": f"container-backup-{given['board']}",
        "root_unpacked_bytes": int(given["root_bytes"]), "files": files,
        "debian": {row["name"]: row["version"] for row in debian}, "unpacked_aside": {row["name"]: row["version"] for row in extras},
        "npm": {f"{n}@{v}": d.get("license", "") if isinstance(d.get("license"), str) else "" for (n, v), d in sorted(npm.items())},
    }


def main():
    given = json.load(sys.stdin)
    work, result = Path(given["work"]), Path(given["result"])
    debian, extras = rows(work / "packages.list"), rows(work / "extras.list")
    npm = npm_packages(work / "service" / "node_modules")
    lock = json.loads((Path(given["repository"]) / "package-lock.json").read_text())["packages"]
    integrities = {(path.rpartition("node_modules/")[2], entry.get("version")): entry.get("integrity") for path, entry in lock.items()}
    for name, content in (("manifest.json", manifest(given, debian, extras, npm)), ("sbom.json", sbom(given, debian, extras, npm, integrities))):
        (result / name).write_text(json.dumps(content, indent=1) + "\n")
        os.chmod(result / name, 0o644)
    print(f"{len(debian)} Debian packages, {len(extras)} aside, {len(npm)} npm packages")


main()
