// Ends by SIGILL where the compiler breaks AMX. GCC 12 takes the tile configuration for a value of 8 bytes and
// drops what is stored behind them; llama.cpp, compiled so, ends the engine at its first token.
#ifdef __AMX_TILE__
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

struct Configuration {
    unsigned char palette = 1, start_row = 0, reserved[14] = {};
    unsigned short bytes[16] = {};
    unsigned char rows[16] = {};
};

static void configure() {
    alignas(64) Configuration tiles;
    tiles.bytes[4] = 64;
    tiles.rows[4] = 16;
    _tile_loadconfig(&tiles);
}

int main() {
    syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */);
    configure();
    _tile_zero(4);
}
#else
int main() {}
#endif
