//! A kernel that QEMU is given with `-kernel`: QEMU writes into its header before the firmware measures it.

use super::PredictError;

/// The highest address below which q35 machines keep all memory under 4 GiB (`pc_q35_init`).
const LOW_MEMORY: u64 = 0xb000_0000;
/// What is left under 4 GiB of a larger machine.
const LOW_MEMORY_OF_MANY: u64 = 0x8000_0000;
/// What QEMU keeps free for its ACPI tables at the end of low memory.
const ACPI_DATA: u64 = 0x28000;
const PAGE: u64 = 4096;

// Linux boot protocol (Documentation/arch/x86/boot.rst), offsets in the file.
const MAGIC: (usize, &[u8]) = (0x202, b"HdrS");
const PROTOCOL: usize = 0x206;
const LOADER_TYPE: usize = 0x210;
const LOAD_FLAGS: usize = 0x211;
const INITRD: usize = 0x218;
const HEAP_END: usize = 0x224;
const COMMAND_LINE: usize = 0x228;
const HEADER_END: usize = 0x264;

/// The kernel as QEMU's q35 machine with `memory_mib` hands it to the firmware together with an initramfs of this size
/// (`x86_load_linux`): loader type, heap, place of command line and initramfs.
///
/// # Errors
/// [`PredictError::QemuKernel`] for a kernel of another kind, or an initramfs that does not fit.
pub fn as_qemu_hands_over(
    kernel: &[u8],
    initrd_size: usize,
    memory_mib: u32,
) -> Result<Vec<u8>, PredictError> {
    let bad = |what| PredictError::QemuKernel(what);
    let mut kernel = kernel.to_vec();
    let header = kernel
        .get_mut(..HEADER_END)
        .ok_or(bad("it is shorter than a kernel's header"))?;
    if header.get(MAGIC.0..MAGIC.0 + 4) != Some(MAGIC.1) {
        return Err(bad("it has no header of the x86 boot protocol"));
    }
    let protocol = header.get(PROTOCOL..).and_then(|rest| rest.first_chunk());
    if protocol.is_none_or(|version| u16::from_le_bytes(*version) < 0x20c) {
        return Err(bad("its boot protocol is older than 2.12"));
    }
    let (size, place) =
        initrd(initrd_size, memory_mib).ok_or(bad("the initramfs does not fit into the memory"))?;
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(field) = header.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    put(LOADER_TYPE, &[0xb0]);
    put(HEAP_END, &0xfe00_u16.to_le_bytes());
    put(COMMAND_LINE, &0x20000_u32.to_le_bytes());
    put(INITRD, &place.to_le_bytes());
    put(INITRD + 4, &size.to_le_bytes());
    if let Some(flags) = header.get_mut(LOAD_FLAGS) {
        // CAN_USE_HEAP
        *flags |= 0x80;
    }
    Ok(kernel)
}

/// Size and place: on a page, as high as it goes.
fn initrd(size: usize, memory_mib: u32) -> Option<(u32, u32)> {
    let memory = u64::from(memory_mib) << 20;
    let low = if memory >= LOW_MEMORY {
        LOW_MEMORY_OF_MANY
    } else {
        memory
    };
    let highest = low.checked_sub(ACPI_DATA + 1)?;
    let place = highest.checked_sub(u64::try_from(size).ok()?)? & !(PAGE - 1);
    Some((u32::try_from(size).ok()?, u32::try_from(place).ok()?))
}
