# What Debian 12 packages the build, all tests, and the benchmarks need. Sourced.
build_packages=(g++ cmake ninja-build nlohmann-json3-dev libcli11-dev libfmt-dev libxxhash-dev
                libjpeg62-turbo-dev libpng-dev libzip-dev libarchive-dev libdnnl-dev zlib1g-dev)
# The tests build the benchmarks too, but run no peers.
test_packages=("${build_packages[@]}" libbenchmark-dev libdnnl-dev
               catch2 pkgconf dpkg-dev file clang clang-format libclang-rt-14-dev binutils python3 python3-torch
               python3-torchvision python3-onnx slurmctld slurmd slurm-client munge)
bench_packages=("${build_packages[@]}" libbenchmark-dev libdnnl-dev python3-numpy python3-onnx python3-torch)
