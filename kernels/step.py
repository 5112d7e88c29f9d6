"""Layout of a program step: a row of int64 words that tells a kernel where its operands are.

Every kernel is ``void kernel(step, tile, thread, image)``: the address of its step, which of its ``tiles`` to do, the
address of the calling thread's block, and the index of the image. An operand is an address and the bytes from one
image to the next (0 where each image uses the same memory).
"""

from __future__ import annotations

WORDS = 48
WORD_BYTES = 8
STEP_BYTES = WORDS * WORD_BYTES

CODE = 0
TILES = 1
X, X_IMAGE = 2, 3
OUT, OUT_IMAGE = 4, 5
EXTRA, EXTRA_IMAGE = 6, 7  # residual, scale or second operand; address 0 where there is none
WEIGHTS = 8
ACTIVATION = 9  # code of kernels.activation
PARAMETERS = 10  # its two float32 parameters, the first in the low half
ZEROS = 11  # memory that holds zeros, at least one input row long
FIRST_SHAPE = 12  # words from here on are the kernel's own integers

# Words of a thread's block.
THREAD_INDEX = 0
THREAD_SCRATCH = 1
THREAD_SCRATCH_BYTES = 2
