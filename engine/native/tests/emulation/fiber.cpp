#include "fiber.h"

asm(R"(
.text
.globl ek_switch_stack
.hidden ek_switch_stack
.type ek_switch_stack, @function
ek_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size ek_switch_stack, .-ek_switch_stack
)");
