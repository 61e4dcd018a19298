"""What stands for Slicer's SampleData module: sources are registered, copied from their place, checked and loaded."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import slicer


class SampleDataSource:
    """One sample: parallel lists of addresses, file names, node names, file types and checksums."""

    def __init__(self, **named: Any) -> None:
        self.sampleName = named["sampleName"]
        self.category = named.get("category", "")
        self.thumbnailFileName = named.get("thumbnailFileName")

        def several(key: str, fallback: Any = None) -> list[Any]:
            value = named.get(key, fallback)
            return list(value) if isinstance(value, list | tuple) else [value] * len(self.uris)

        uris = named["uris"]
        self.uris = list(uris) if isinstance(uris, list | tuple) else [uris]
        self.fileNames, self.nodeNames = several("fileNames"), several("nodeNames")
        self.checksums, self.loadFiles = several("checksums"), several("loadFiles", True)
        self.loadFileTypes = several("loadFileTypes") if named.get("loadFileTypes") else several("loadFileType")
        lengths = {len(each) for each in (self.uris, self.fileNames, self.nodeNames, self.checksums)}
        if len(lengths) != 1:
            raise ValueError("All fields of sample data source must be the same length")


class SampleDataLogic:
    """`SampleData.SampleDataLogic`; addresses other than files are refused, tests have no network."""

    @staticmethod
    def registerCustomSampleDataSource(category: str = "Custom", **named: Any) -> None:
        sources = _sources().setdefault(category, [])
        names = [each.sampleName for each in sources]
        source = SampleDataSource(category=category, **named)
        if source.sampleName in names:
            sources[names.index(source.sampleName)] = source
        else:
            sources.append(source)

    def sourceForSampleName(self, sampleName: str) -> SampleDataSource | None:
        every = (source for sources in _sources().values() for source in sources)
        return next((each for each in every if each.sampleName == sampleName), None)

    def downloadSample(self, sampleName: str) -> Any:
        source = self.sourceForSampleName(sampleName)
        if source is None:
            raise ValueError(f"Sample data '{sampleName}' is not registered")
        nodes = self.downloadFromSource(source)
        return nodes[0] if len(nodes) == 1 else nodes

    def downloadSamples(self, sampleName: str) -> list[Any]:
        source = self.sourceForSampleName(sampleName)
        if source is None:
            raise ValueError(f"Sample data '{sampleName}' is not registered")
        return self.downloadFromSource(source)

    def downloadFromSource(self, source: SampleDataSource) -> list[Any]:
        folder = Path(slicer.app.temporaryPath) / "SampleData"
        folder.mkdir(exist_ok=True)
        parts = (source.uris, source.fileNames, source.nodeNames, source.checksums, source.loadFileTypes)
        nodes = []
        for uri, file_name, node_name, checksum, kind in zip(*parts, strict=True):
            address = urlparse(uri)
            if address.scheme != "file":
                raise RuntimeError(f"The host has no network, and {uri} is not a file")
            target = folder / file_name
            shutil.copyfile(url2pathname(address.path), target)
            algorithm, _, wanted = (checksum or "").partition(":")
            if wanted and hashlib.new(algorithm.lower(), target.read_bytes()).hexdigest() != wanted:
                raise ValueError(f"The checksum of {file_name} is not that of the registered sample")
            nodes.append(slicer.util.loadNodeFromFile(str(target), kind, {"name": node_name or ""}))
        return nodes


def _sources() -> dict[str, list[SampleDataSource]]:
    if not hasattr(slicer.modules, "sampleDataSources"):
        slicer.modules.sampleDataSources = {}
    return slicer.modules.sampleDataSources


def downloadSample(sampleName: str) -> Any:
    return SampleDataLogic().downloadSample(sampleName)
