/*
 * The way in: the PVH entry of the boot processor (32-bit protected mode, paging off, start_info in
 * EBX), the INIT/SIPI trampoline of the others (16-bit), the interrupt entries, and the step to
 * ring 3. Nothing here may depend on what firmware left behind but for that.
 *
 * PVH: xen/include/public/arch-x86/hvm/start_info.h and the ELF note XEN_ELFNOTE_PHYS32_ENTRY (18).
 */
#include "tests/guest/memd-guest/layout.h"

	.section .note.pvh, "a", @note
	.balign 4
	.long	4, 8, 18
	.asciz	"Xen"
	.quad	pvh_start

/*
 * The first 4 GiB one to one in 2 MiB pages: present, writable, user, accessed, dirty, huge. They
 * are data and not code, since each instruction of ring 0 may be emulated. memory.c adds what lies
 * above.
 */
	.data
	.balign	4096
	.globl	boot_pml4, boot_pdpt
boot_pml4:
	.quad	boot_pdpt + 0x27
	.fill	511, 8, 0
boot_pdpt:
	.quad	boot_pds + 0x0027
	.quad	boot_pds + 0x1027
	.quad	boot_pds + 0x2027
	.quad	boot_pds + 0x3027
	.fill	508, 8, 0
boot_pds:
	.set	address, 0
	.rept	2048
	.quad	address + 0xe7
	.set	address, address + 0x200000
	.endr

	.balign	16
boot_gdt:
	.quad	0
	.quad	0x00cf9b000000ffff		/* 0x08: 32-bit code, for the way up only */
	.quad	0x00af9b000000ffff		/* 0x10: SEL_KERNEL_CODE */
	.quad	0x00cf93000000ffff		/* 0x18: SEL_KERNEL_DATA */
boot_gdt_pointer:
	.word	. - boot_gdt - 1
	.quad	boot_gdt

	.text
	.code32
	.globl	pvh_start
pvh_start:
	cli
	cld
	movl	$cpu_boot_stack_top, %esp
	movl	%ebx, %edi
	call	enable_paging
	lgdt	boot_gdt_pointer
	ljmp	$SEL_KERNEL_CODE, $bsp_start64

/* Long mode on, in compatibility mode still. Clobbers EAX, ECX, EDX. */
enable_paging:
	movl	%cr4, %eax
	orl	$0x20, %eax			/* PAE */
	movl	%eax, %cr4
	movl	$boot_pml4, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx		/* EFER.LME */
	rdmsr
	orl	$0x100, %eax
	wrmsr
	movl	$0x80010033, %eax		/* PG WP NE ET MP PE; caches on */
	movl	%eax, %cr0
	ret

	.code64
bsp_start64:
	movl	$SEL_KERNEL_DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movq	$cpu_boot_stack_top, %rsp
	xorl	%ebp, %ebp
	movl	%edi, %edi			/* start_info, zero-extended */
	call	main_boot
	ud2

/*
 * Copied to AP_TRAMPOLINE. smp.c starts one processor at a time and puts its stack into
 * ap_boot_stack.
 */
	.globl	ap_trampoline, ap_trampoline_end
	.code16
ap_trampoline:
	cli
	cld
	movw	%cs, %ax
	movw	%ax, %ds
	lgdtl	ap_gdt_pointer - ap_trampoline
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$0x08, $(ap_start32 - ap_trampoline + AP_TRAMPOLINE)
	.code32
ap_start32:
	movl	$SEL_KERNEL_DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	ap_boot_stack, %esp
	movl	$enable_paging, %eax
	call	*%eax
	ljmp	$SEL_KERNEL_CODE, $ap_start64
	.balign	8
ap_gdt_pointer:
	.word	31
	.long	boot_gdt
ap_trampoline_end:

	.code64
ap_start64:
	movl	ap_boot_stack, %esp
	xorl	%ebp, %ebp
	call	main_boot_ap
	ud2

/*
 * void user_enter(void (*fn)(void *), void *arg, void *stack_top): ring 3, interrupts on, for good.
 */
	.globl	user_enter
user_enter:
	movl	$SEL_USER_DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	subq	$8, %rdx			/* as after a call: the ABI's stack alignment */
	pushq	$SEL_USER_DATA
	pushq	%rdx
	pushq	$0x202
	pushq	$SEL_USER_CODE
	pushq	%rdi
	movq	%rsi, %rdi
	xorl	%ebp, %ebp
	iretq

/*
 * long syscall(nr, a, b, c): ud2, a fault, so that it is delivered where `syscall` and `int` are
 * not. The handler steps over the two bytes and leaves the result in RAX.
 */
	.globl	user_syscall
user_syscall:
	movq	%rdi, %rax
	movq	%rsi, %rdi
	movq	%rdx, %rsi
	movq	%rcx, %rdx
	ud2
	ret

/* One entry a vector, 16 bytes apart; those where the CPU pushes no error code push a 0. */
	.balign	16
	.globl	trap_entries
trap_entries:
	.set	vector, 0
	.rept	N_VECTORS
	.balign	16
	.if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
	pushq	$0
	.endif
	pushq	$vector
	jmp	trap_common
	.set	vector, vector + 1
	.endr

trap_common:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	pushq	%rsi
	pushq	%rdi
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	movq	%rsp, %rdi
	cld
	call	trap_handle
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rdi
	popq	%rsi
	popq	%rdx
	popq	%rcx
	popq	%rax
	addq	$16, %rsp
	iretq

	.section .note.GNU-stack, "", @progbits
