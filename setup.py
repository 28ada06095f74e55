"Everything about the package is said once, in settings.ini; this reads it for pip."

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

settings = ConfigParser(delimiters=["="])
settings.read("settings.ini", encoding="utf-8")
about = settings["DEFAULT"]

setup(
    name=about["lib_name"],
    version=about["version"],
    description=about["description"],
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=about["author"],
    author_email=about["author_email"],
    url=about["git_url"],
    project_urls={"Documentation": about["doc_host"] + about["doc_baseurl"]},
    license="MIT",
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    keywords=about["keywords"].split(),
    packages=find_packages(include=[about["lib_path"], f"{about['lib_path']}.*"]),
    # `py.typed` says that the package has types
    package_data={about["lib_path"]: ["py.typed", "instrument.js"]},
    python_requires=f">={about['min_python']}",
    install_requires=about["requirements"].split(),
    extras_require={
        name: about[f"{name}_requirements"].split() for name in ("dev", "large_scale")
    },
    entry_points={
        "console_scripts": [about["console_scripts"]],
        "nbdev": [f"{about['lib_path']}={about['lib_path']}._modidx:d"],
    },
)
