"""Layout of the memory that the runtime's native functions share with Python, in int64 words; it compiles nothing.

A request says what one call runs. A pool block is the state of one thread pool: words that change together with the
claimed tiles have a 128-byte line of their own (two cache lines, which are fetched in pairs), as has every worker.
"""

from __future__ import annotations

WORD_BYTES = 8
LINE_WORDS = 16
LINE_BYTES = LINE_WORDS * WORD_BYTES

# Words of a request. Thread t uses the thread block at THREAD_BLOCKS + t * THREAD_BLOCK_BYTES. A caller that finds no
# other threads runs ALONE_PROGRAM instead. FASTEST and ALONE are the least nanoseconds that a run of it took by several
# threads and by one of them, 0 before there was any; TIME is a struct timespec for the caller.
PROGRAM, STEPS, ALONE_PROGRAM, ALONE_STEPS, IMAGES, THREADS, THREAD_BLOCKS, THREAD_BLOCK_BYTES, FASTEST, ALONE, TIME = (
    range(11)
)
REQUEST_WORDS = TIME + 2

# A pool block's first line: what threads change while they run a program.
STATE = 0  # which tiles of which step are left, see below
DONE = 1  # tiles of this step that are finished
STEP = 2  # address of this step
IMAGE = 3  # index of this step's image

# Its second line: the run in progress, written by the caller before it opens the first step.
RUN_PROGRAM, RUN_PROGRAM_END, RUN_IMAGES, RUN_END, RUN_THREADS, RUN_BLOCKS, RUN_BLOCK_BYTES = range(
    LINE_WORDS, LINE_WORDS + 7
)

# Its third line: who may use the pool, and whether that pays.
CALLS = 2 * LINE_WORDS  # calls in flight, those that run alone included
BUSY = CALLS + 1  # 1 while a caller has the workers
REST = CALLS + 2  # runs that shall still be made alone
NEXT_REST = CALLS + 3  # how many that will be the next time
REST_END = CALLS + 4  # until when, in nanoseconds: whoever calls later finds another machine
DOUBT = CALLS + 5  # rises with each run that was slower than alone, falls with each that was not
FIRST_TILE = CALLS + 6  # of a run by prange: the tile that its first thread takes

# Its fourth line: what Python sets before a worker starts; addresses of functions of the C library, 0 for none.
WORKERS = 3 * LINE_WORDS  # workers that have started
SPINS = WORKERS + 1  # looks at STATE before a thread stops spinning
CLOCK_GETTIME, CLOCK_ID, SCHED_YIELD = range(WORKERS + 2, WORKERS + 5)
MUTEX_LOCK, MUTEX_UNLOCK, COND_WAIT, COND_SIGNAL = range(WORKERS + 5, WORKERS + 9)
SCHED_GETCPU, SCHED_SETAFFINITY = range(WORKERS + 9, WORKERS + 11)

# Then the CPUs that workers may use, as sched_setaffinity takes them.
CPUS = 4 * LINE_WORDS
CPU_WORDS = LINE_WORDS
MAX_CPUS = 64 * CPU_WORDS

# Then the lines of worker 1, 2, ... (thread 0 of a run is its caller).
FIRST_WORKER = 5 * LINE_WORDS
WORKER_WORDS = 4 * LINE_WORDS
MAX_THREADS = 256
POOL_WORDS = FIRST_WORKER + (MAX_THREADS - 1) * WORKER_WORDS

# Words of a worker.
ASLEEP = 0  # 1 while it sleeps or is about to
STOP = 1  # 1 asks it to return
TID = 2  # the system's number of the thread
KEPT_OFF = 3  # the CPU it was last kept off, -1 for none
MUTEX, COND, WORKER_CPUS = LINE_WORDS, 2 * LINE_WORDS, 3 * LINE_WORDS

# STATE = ticket << TICKET_SHIFT | back << BACK_SHIFT | front: tiles front .. back-1 are not yet claimed. The ticket is
# the number of steps that ever began; a claim that compares the whole word cannot take a tile of another step.
TILE_BITS = 12
MAX_TILES = (1 << TILE_BITS) - 1
BACK_SHIFT = TILE_BITS
TICKET_SHIFT = 2 * TILE_BITS
TICKET_MASK = (1 << (64 - TICKET_SHIFT)) - 1
