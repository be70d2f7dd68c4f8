/* The child of all supervisors: tells the time at which it runs, and then costs nothing.
 *
 * child MODE:FILE NAME      MODE is plain, slow (ends 300 ms after SIGTERM or SIGINT) or floodN
 *                           (writes N MiB to its output). FILE takes lines "EVENT NAME PID NS".
 * As a script's interpreter (#!child plain:FILE) its NAME is that of its working directory. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void end_late(int number) {
    struct timespec pause = {0, 300000000};
    (void)number;
    nanosleep(&pause, NULL);
    _exit(0);
}

static void tell(const char *path, char event, const char *name) {
    struct timespec now;
    char line[256];
    int file = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    clock_gettime(CLOCK_MONOTONIC, &now);
    int length = snprintf(line, sizeof line, "%c %s %d %lld\n", event, name, (int)getpid(),
                          (long long)now.tv_sec * 1000000000LL + now.tv_nsec);
    if (write(file, line, length) < 0) _exit(3);
    close(file);
}

int main(int count, char **words) {
    static char block[4096], folder[4096];
    if (count < 3) return 2;
    char *path = strchr(words[1], ':') + 1, *name = words[2];
    if (strcmp(name, "./run") == 0 && getcwd(folder, sizeof folder)) name = strrchr(folder, '/') + 1;
    if (words[1][0] == 's') {
        signal(SIGTERM, end_late);
        signal(SIGINT, end_late);
    }
    tell(path, 'S', name);
    if (words[1][0] == 'f') {
        long blocks = atol(words[1] + 5) * 256;
        memset(block, 'x', sizeof block);
        block[sizeof block - 1] = '\n';
        while (blocks-- > 0)
            for (size_t done = 0; done < sizeof block;) {
                ssize_t wrote = write(1, block + done, sizeof block - done);
                if (wrote < 0) _exit(4);
                done += wrote;
            }
        tell(path, 'F', name);
    }
    for (;;) pause();
}
