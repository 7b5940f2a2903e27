# For `make debug`: attaches to the stopped QEMU and runs to the hypervisor's first instruction.
set pagination off
set confirm off
target remote :1234
# Symbols are valid once the loader has jumped: a hardware breakpoint works before that.
hbreak hv_main
echo \nstarting the firmware\n
continue
delete
