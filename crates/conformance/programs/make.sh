# A library of the GNU binutils, configured: to compile it, and to tell of what comes of it.
mkdir source build
tar -xf /usr/src/binutils/binutils-*.tar.xz -C source --strip-components=1 --wildcards '*/libiberty' '*/include' '*/config*' '*/install-sh'
cd build
../source/libiberty/configure --srcdir=../source/libiberty >configured 2>&1
compile() {
    make clean >cleaned && make -j2 >made 2>&1 && cat ./*.o libiberty.a
}
export -f compile
