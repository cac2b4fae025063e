#!/usr/bin/env python3
"""What is installed and packaged, used by projects outside of the tree.

usage: test_install.py BUILD_FOLDER SOURCE_FOLDER COMPILER
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from support.checkpoints import float_glyphs
from support.programs import run

BUILD, SOURCE = (Path(arg).resolve() for arg in sys.argv[1:3])
COMPILER = sys.argv[3]
GLYPHS = SOURCE / "converters" / "glyphs"
SAMPLES = [GLYPHS / "samples" / name for name in ("A_0.jpg", "7_1.png", "R_3.png")]
EXAMPLES = SOURCE / "docs" / "examples"
OUTSIDE = SOURCE / "tests" / "outside"
LIBRARIES = ("intaglio", "intaglio_image", "intaglio_convert")
HEADERS_IN_C = {"intaglio": "c_api.h", "intaglio_image": "c_image.h"}
# Of the C and C++ runtimes.
RUNTIMES = {"libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libc.so.6", "ld-linux-x86-64.so.2"}
MAX_RUNTIME_BYTES = 2_000_000
CACHE = (BUILD / "CMakeCache.txt").read_text()
VERSION = re.search(r"^CMAKE_PROJECT_VERSION:STATIC=(.+)$", CACHE, re.MULTILINE)[1]
SOVERSION = VERSION.rpartition(".")[0]
SONAME = f"libintaglio.so.{SOVERSION}"


def needed(library):
    return set(re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-dW", library).stdout))


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.prefix = cls.folder / "prefix"
        run("cmake", "--install", BUILD, "--prefix", cls.prefix, "--strip")
        (cls.lib,) = {path.parent for path in cls.prefix.rglob("libintaglio.so")}
        cls.model = cls.folder / "glyphs.intg"
        tool = cls.prefix / "bin" / "intaglio-convert"
        run(tool, "import", GLYPHS / "glyphs.safetensors", "--labels", GLYPHS / "labels.txt",
            "-o", cls.model)
        told = run(cls.prefix / "bin" / "intaglio-classify", cls.model, *SAMPLES, "--top-k", 3).stdout
        # All but the line with the time.
        cls.classes = "".join(told.splitlines(keepends=True)[:-1])

    def check_classify(self, program, **environment):
        """The program, and its twin in C."""
        for path in (program, program.with_name(program.name + "_c")):
            self.check_classes(path, **environment)

    def check_classes(self, program, **environment):
        done = subprocess.run([program, self.model, *SAMPLES], capture_output=True, text=True,
                              env={**os.environ, **environment}, timeout=60)
        self.assertEqual((done.returncode, done.stderr, done.stdout), (0, "", self.classes))
        self.assertIn("%  A\n", self.classes)

    def outside(self, name, compiler, *definitions, build=True):
        """Configures and builds the outside project; its folder."""
        folder = self.folder / name
        launcher = re.search(r"^CMAKE_CXX_COMPILER_LAUNCHER:\w+=(.+)$", CACHE, re.MULTILINE)
        if launcher:
            definitions += (f"-DCMAKE_CXX_COMPILER_LAUNCHER={launcher[1]}",
                            f"-DCMAKE_C_COMPILER_LAUNCHER={launcher[1]}")
        in_c = re.sub(r"(clang|g|c)\+\+", lambda m: {"clang": "clang", "g": "gcc", "c": "cc"}[m[1]],
                      compiler)
        run("cmake", "-G", "Ninja", "-S", OUTSIDE, "-B", folder, f"-DCMAKE_CXX_COMPILER={compiler}",
            f"-DCMAKE_C_COMPILER={in_c}",
            f"-DEXAMPLES={EXAMPLES}", f"-DVERSION={SOVERSION}", *definitions)
        if build:
            run("cmake", "--build", folder)
        return folder

    def declared_in_c(self, header):
        """The functions of a C header."""
        if header is None:
            return set()
        text = (self.prefix / "include" / "intaglio" / header).read_text()
        return set(re.findall(r"INTAGLIO_API [^;(]*?(intaglio_\w+)\(", text))

    def test_symbols(self):
        for name in LIBRARIES:
            library = self.lib / f"lib{name}.so"
            names = [line.split(maxsplit=2)[2] for line in
                     run("nm", "-DC", "--defined-only", library).stdout.splitlines()]
            self.assertTrue(names, library)
            in_c = {symbol for symbol in names if re.fullmatch(r"intaglio_\w+", symbol)}
            self.assertEqual(in_c, self.declared_in_c(HEADERS_IN_C.get(name)))
            for symbol in set(names) - in_c:
                self.assertRegex(symbol, r"^((typeinfo|typeinfo name|vtable) for )?intaglio::")
                self.assertNotRegex(symbol, "Impl|::State|Graph|Safetensors|KernelTable")
            found = " ".join(names)
            self.assertEqual("Model::load" in found, name == "intaglio")
            self.assertEqual("decode_image" in found, name == "intaglio_image")
            self.assertEqual("quantize" in found, name == "intaglio_convert")

    def test_runtime_is_small_and_alone(self):
        library = self.lib / "libintaglio.so"
        self.assertLessEqual(needed(library), RUNTIMES)
        self.assertTrue(needed(library))
        self.assertLess(library.stat().st_size, MAX_RUNTIME_BYTES)
        soname = re.search(r"SONAME.*\[(.*)\]", run("readelf", "-dW", library).stdout)[1]
        self.assertEqual(soname, SONAME)
        self.assertEqual(library.resolve().name, f"libintaglio.so.{VERSION}")

    def test_headers(self):
        headers = sorted(self.prefix.rglob("include/**/*.h"))
        self.assertIn("intaglio.h", [header.name for header in headers])
        for header in headers:
            self.assertEqual(header.parent, self.prefix / "include" / "intaglio")
            for include in re.findall(r"^ *# *include *(.*)", header.read_text(), re.MULTILINE):
                self.assertRegex(include,
                                 r'^(<[a-z_]+>|<std(def|int)\.h>|"intaglio/[a-z_]+\.h")$', header)
        # The examples include some first; these are the others.
        for name in ("convert.h", "cpu.h", "error.h", "thread_pool.h"):
            run(COMPILER, "-std=c++20", "-fsyntax-only", "-w", "-x", "c++", "-I",
                self.prefix / "include", self.prefix / "include" / "intaglio" / name)
        for compiler, language in (("gcc", "c"), ("gcc", "c++"), ("clang", "c"), ("clang", "c++")):
            run(compiler, "-std=" + {"c": "c99", "c++": "c++98"}[language], "-pedantic", "-Wall",
                "-Wextra", "-Werror", "-fsyntax-only", "-x", language, "-I", self.prefix / "include",
                self.prefix / "include" / "intaglio" / "c_image.h")

    def test_scripts(self):
        scripts = self.prefix / "share" / "intaglio" / "slurm"
        self.assertIn("--shards", run(scripts / "submit.sh", "--help").stdout)
        self.assertEqual(sorted(path.name for path in scripts.iterdir()),
                         ["merge.sbatch", "shard.sbatch", "submit.sh"])

    def check_convert(self, program):
        """The same models as those of the tool, and an error that is caught by its type."""
        model, expected = program.parent / "glyphs.intg", program.parent / "expected.intg"
        floats = program.parent / "float.safetensors"
        float_glyphs(GLYPHS, floats)
        tool = self.prefix / "bin" / "intaglio-convert"
        images = [part for sample in SAMPLES for part in ("--images", sample)]
        for checkpoint, command, options, pictures in (
                (GLYPHS / "glyphs.safetensors", "import", [], []),
                (floats, "quantize", images, SAMPLES)):
            run(tool, command, checkpoint, *options, "-o", expected)
            self.assertEqual(run(program, checkpoint, model, *pictures).stdout,
                             "32 classes\nerror 1\n")
            self.assertEqual(model.read_bytes(), expected.read_bytes())

    def test_find_package(self):
        for compiler, linkage, convert in (("g++", "", True), ("clang++", "", False),
                                           ("g++", "_static", False), ("clang++", "_static", True)):
            with self.subTest(compiler=compiler, linkage=linkage):
                folder = self.outside(f"package_{compiler}{linkage}", compiler, "-DMODE=package",
                                      f"-DLINKAGE={linkage}", f"-DCONVERT={convert}",
                                      f"-DCMAKE_PREFIX_PATH={self.prefix}")
                self.assertEqual(SONAME in needed(folder / "classify"), linkage == "")
                self.check_classify(folder / "classify")
                if convert:
                    self.check_convert(folder / "convert")

    def test_find_package_refuses(self):
        for package, message in (("intaglio 9 CONFIG REQUIRED", "version"),
                                 ("intaglio CONFIG REQUIRED COMPONENTS cuda", "cuda")):
            folder = self.folder / "refused"
            folder.mkdir(exist_ok=True)
            (folder / "CMakeLists.txt").write_text(
                "cmake_minimum_required(VERSION 3.25)\nproject(refused LANGUAGES NONE)\n"
                f"find_package({package})\n")
            done = run("cmake", "-G", "Ninja", "-S", folder, "-B", folder / "build",
                       f"-DCMAKE_PREFIX_PATH={self.prefix}", status=1)
            self.assertIn(message, done.stderr)

    def test_pkg_config(self):
        def flags(*options):
            return run("pkgconf", f"--with-path={self.lib / 'pkgconfig'}", *options,
                       "intaglio_image", "intaglio").stdout.split()
        objects = {}
        for source, compiler in (("classify.cpp", [COMPILER, "-std=c++20"]), ("classify.c", ["cc", "-std=c99"])):
            objects[compiler[0]] = self.folder / f"{source}.o"
            run(*compiler, "-c", EXAMPLES / source, *flags("--cflags"), "-o", objects[compiler[0]])
        for static in (False, True):
            program = self.folder / f"pkg_config_{static}"
            libraries = flags("--libs", *(["--static"] if static else []))
            if static:  # ours alone; the others are as the system has them
                libraries = [re.sub(r"^-l(intaglio.*)", r"-l:lib\1.a", flag) for flag in libraries]
            for (compiler, compiled), suffix in zip(objects.items(), ("", "_c")):
                run(compiler, compiled, *libraries, "-o", f"{program}{suffix}")
            self.assertEqual(SONAME in needed(program), not static)
            self.check_classify(program, LD_LIBRARY_PATH="" if static else str(self.lib))

    def test_inside_another_project(self):
        where = f"-DINTAGLIO_SOURCE={SOURCE}"
        # It does the same, once it has the sources.
        self.outside("fetch", COMPILER, "-DMODE=fetch", where, build=False)
        self.outside("subdirectory_shared", COMPILER, "-DMODE=subdirectory", where,
                     "-DBUILD_SHARED_LIBS=ON", build=False)
        # What a host wants of its own sources must not break ours.
        for compiler, wish in (("g++", ()), ("clang++", ("-DCMAKE_UNITY_BUILD=ON",))):
            with self.subTest(compiler=compiler):
                folder = self.outside(f"subdirectory_{compiler}", compiler, "-DMODE=subdirectory",
                                      where, *wish)
                self.check_classify(folder / "classify")
                # Nobody asked for those.
                self.assertFalse([path for pattern in ("libintaglio_convert*", "*.so*")
                                  for path in folder.rglob(pattern)])
        self.assertIn("No tests were found", run("ctest", "--test-dir", folder, "-N").stderr +
                      run("ctest", "--test-dir", folder).stderr)
        run("cmake", "--install", folder, "--prefix", folder / "installed")
        self.assertEqual([path.name for path in (folder / "installed").rglob("*") if path.is_file()],
                         ["classify"])

    def test_debian_packages(self):
        packages = self.folder / "packages"
        run("cpack", "--config", BUILD / "CPackConfig.cmake", "-B", packages)
        names = {}
        root = self.folder / "root"
        for package in packages.glob("*.deb"):
            names[run("dpkg-deb", "-f", package, "Package").stdout.strip()] = package
            run("dpkg-deb", "-x", package, root)
        self.assertEqual(set(names), {
            f"libintaglio{SOVERSION}", f"libintaglio-image{SOVERSION}", f"libintaglio-convert{SOVERSION}",
            "libintaglio-dev", "intaglio-tools"})
        runtime = run("dpkg-deb", "-f", names[f"libintaglio{SOVERSION}"], "Depends").stdout
        self.assertEqual(set(re.findall(r"[a-z][a-z0-9.+-]+(?= |,|$)", re.sub(r"\(.*?\)", "", runtime))),
                         {"libc6", "libgcc-s1", "libstdc++6"})
        self.assertRegex(run("dpkg-deb", "-f", names["libintaglio-dev"], "Maintainer").stdout,
                         r"^[^<>@]+ <[^<>@\s]+@[^<>@\s]+>\n$")
        self.assertIn("libjpeg", run("dpkg-deb", "-f", names[f"libintaglio-image{SOVERSION}"]).stdout)
        self.assertIn(f"libintaglio{SOVERSION} (= ",
                      run("dpkg-deb", "-f", names["libintaglio-dev"], "Depends").stdout)
        self.assertIn("ldconfig", run("dpkg-deb", "-I", names[f"libintaglio{SOVERSION}"],
                                      "postinst").stdout)
        self.check_classify_of_packages(root)

    def check_classify_of_packages(self, root):
        told = run(root / "usr" / "bin" / "intaglio-classify", self.model, *SAMPLES, "--top-k", 3)
        self.assertTrue(told.stdout.startswith(self.classes))
        folder = self.outside("debian", COMPILER, "-DMODE=package", "-DLINKAGE=",
                              f"-DCMAKE_PREFIX_PATH={root / 'usr'}")
        self.check_classify(folder / "classify")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
