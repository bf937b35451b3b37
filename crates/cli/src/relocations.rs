//! Gives memory back that only the start needs.

/// Lets go of the list of addresses that the dynamic loader adapted when it started this program.
///
/// It is 3 MiB in a program of this size, which stay resident though nobody reads them again. The
/// pages are the file's own and were never written: whoever would read them gets them anew.
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
pub(crate) fn forget() {
    // SAFETY: the callback reads what the loader hands it, and nothing after the call.
    unsafe {
        libc::dl_iterate_phdr(Some(forget_of), std::ptr::null_mut());
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64")))]
pub(crate) fn forget() {}

#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
extern "C" fn forget_of(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    /// Tags of the entries for where the list is and how long, and of the last one (ELF, "Dynamic
    /// Section").
    const DT_NULL: u64 = 0;
    const DT_RELA: u64 = 7;
    const DT_RELASZ: u64 = 8;
    const PAGE: u64 = 4096;

    #[repr(C)]
    struct Entry {
        tag: u64,
        value: u64,
    }

    // SAFETY: the loader describes a program that it has mapped, whose headers and dynamic section
    // stay where they are until the program ends; the section ends with `DT_NULL`.
    unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        let (mut start, mut length) = (0_u64, 0_u64);
        if let Some(dynamic) = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC) {
            let mut entry = (info.dlpi_addr + dynamic.p_vaddr) as *const Entry;
            while (*entry).tag != DT_NULL {
                match (*entry).tag {
                    DT_RELA => start = (*entry).value,
                    DT_RELASZ => length = (*entry).value,
                    _ => {}
                }
                entry = entry.add(1);
            }
        }
        // Some loaders write addresses where the file has offsets.
        if start < info.dlpi_addr {
            start += info.dlpi_addr;
        }
        // Whole pages of one segment that may only be read: what was written there would be lost.
        let is_constant = headers.iter().any(|header| {
            let begin = info.dlpi_addr + header.p_vaddr;
            header.p_type == libc::PT_LOAD
                && header.p_flags & libc::PF_W == 0
                && begin <= start
                && start + length <= begin + header.p_filesz
        });
        let (begin, end) = (start.next_multiple_of(PAGE), (start + length) & !(PAGE - 1));
        if is_constant && begin < end {
            let length = usize::try_from(end - begin).unwrap_or(0);
            libc::madvise(begin as *mut libc::c_void, length, libc::MADV_DONTNEED);
        }
    }
    // The first is this program; libraries are left alone.
    1
}
