# What Debian 12 packages the build, and all tests, need. Sourced.
build_packages=(g++ cmake ninja-build nlohmann-json3-dev libcli11-dev libfmt-dev libxxhash-dev
                libjpeg62-turbo-dev libpng-dev)
test_packages=("${build_packages[@]}" catch2 clang clang-format libclang-rt-14-dev binutils python3 python3-torch)
