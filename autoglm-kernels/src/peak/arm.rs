//! Loops of one instruction on Arm's 128-bit registers.

use std::arch::asm;

/// A function that does `rounds` rounds of the line for each of twelve sums, whose number stands in it as
/// `\i`, and hands back its second argument. Registers 14 and 15 are the factors and 13 is free; all begin
/// at zero, because some processors take longer over odd floats.
macro_rules! peak {
    ($name:ident, $features:literal, $line:literal) => {
        #[target_feature(enable = $features)]
        pub(super) fn $name(rounds: u64, operations: u64) -> u64 {
            if rounds > 0 {
                // SAFETY: the block changes the registers that it names and no memory.
                unsafe {
                    asm!(
                        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                        "movi v\\i\\().16b, #0",
                        ".endr",
                        "2:",
                        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
                        $line,
                        ".endr",
                        "subs {n}, {n}, #1",
                        "b.ne 2b",
                        n = inout(reg) rounds => _,
                        out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                        out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                        out("v8") _, out("v9") _, out("v10") _, out("v11") _,
                        out("v12") _, out("v13") _, out("v14") _, out("v15") _,
                        options(nomem, nostack),
                    );
                }
            }
            operations
        }
    };
}

peak!(smull, "neon", "smull v13.8h, v14.8b, v15.8b\nsmlal v13.8h, v14.8b, v15.8b\nsadalp v\\i\\().4s, v13.8h");
peak!(sdot, "neon,dotprod", "sdot v\\i\\().4s, v14.16b, v15.16b");
peak!(smmla, "neon,i8mm", "smmla v\\i\\().4s, v14.16b, v15.16b");
peak!(fmla, "neon", "fmla v\\i\\().4s, v14.4s, v15.4s");
