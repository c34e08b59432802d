/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KAMOTEL_FILES_BPF_H
#define KAMOTEL_FILES_BPF_H

/*
 * A file's identity as uprobes know it. The agent maps the file, says where, and walks its own
 * mappings: only the mapping's inode is the one below overlayfs, and two containers of one image
 * must not be probed twice.
 */

pid_t wanted_tgid = 0;
__u64 wanted_start = 0;
struct kamotel_file wanted_file = {};

SEC("iter/task_vma")
int kamotel_file(struct bpf_iter__task_vma *ctx)
{
	struct task_struct *task = ctx->task;
	struct vm_area_struct *vma = ctx->vma;

	if (!task || !vma || task->tgid != wanted_tgid || vma->vm_start != wanted_start ||
	    !vma->vm_file)
		return 0;
	wanted_file.inode = BPF_CORE_READ(vma, vm_file, f_inode, i_ino);
	wanted_file.device = BPF_CORE_READ(vma, vm_file, f_inode, i_sb, s_dev);
	return 0;
}

#endif /* KAMOTEL_FILES_BPF_H */
