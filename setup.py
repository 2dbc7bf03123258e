"""Put the recipes and the published rows, which lie beside the package, into it."""

from setuptools import find_packages, setup

DATA = {"mambabench.recipes": "recipes", "mambabench.published": "results/published"}

setup(
    packages=[*find_packages(include=["mambabench*"]), *DATA],
    package_dir=DATA,
    package_data={
        "mambabench": ["py.typed"],
        "mambabench.report.exchange": ["*.bib"],
        "mambabench.report.formats": ["*.css", "*.js"],
        "mambabench.hear_api.zoo": ["*.toml"],
        "mambabench.recipes": ["*.toml", "README.md"],
        "mambabench.published": ["*.csv", "README.md"],
    },
)
