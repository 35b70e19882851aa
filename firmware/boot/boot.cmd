# U-Boot runs this script. Both boot partitions contain it, and either copy chooses the slot as RAUC's U-Boot backend expects.
# The partition `env` stores BOOT_ORDER and the tries left, BOOT_A_LEFT and BOOT_B_LEFT. U-Boot's own environment is not used, because its
# place differs from board to board. If `env` cannot be read, slot A starts, then slot B. RAUC marks a good slot with 3 tries left; the
# script counts that to 1, then 0. So a slot gets two tries, without setexpr, which the U-Boot of some boards lacks.
setenv BOOT_ORDER "A B"
setenv BOOT_A_LEFT 2
setenv BOOT_B_LEFT 2
setenv env_size 0x4000
setenv env_blocks 0x20
setenv env_vars "BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT"

part number ${devtype} ${devnum} env env_number
part start ${devtype} ${devnum} env env_start
part number ${devtype} ${devnum} boot-a boot_a_number
part number ${devtype} ${devnum} boot-b boot_b_number
part uuid ${devtype} ${devnum}:${env_number} boot_part

# -c: env import and env export use a leading checksum, as fw_setenv does.
setenv remember 'env export -c -s ${env_size} ${kernel_addr_r} ${env_vars}; ${devtype} write ${kernel_addr_r} ${env_start} ${env_blocks}'
setenv start_slot 'echo Starting slot ${slot}; if load ${devtype} ${devnum}:${boot_number} ${kernel_addr_r} vmlinuz && load ${devtype} ${devnum}:${boot_number} ${fdt_addr_r} dtbs/@DEVICE_TREE@ && load ${devtype} ${devnum}:${boot_number} ${ramdisk_addr_r} initrd.img; then setenv bootargs root=PARTLABEL=${root_label} rauc.slot=${slot} boot.partuuid=${boot_part} @ARGUMENTS@; booti ${kernel_addr_r} ${ramdisk_addr_r}:${filesize} ${fdt_addr_r}; fi; echo Slot ${slot} cannot be started'
setenv use_a 'setenv slot A; setenv root_label root-a; setenv boot_number ${boot_a_number}'
setenv use_b 'setenv slot B; setenv root_label root-b; setenv boot_number ${boot_b_number}'

if ${devtype} dev ${devnum} && ${devtype} read ${kernel_addr_r} ${env_start} ${env_blocks} && env import -c ${kernel_addr_r} ${env_size} ${env_vars}; then
  echo Slots: ${BOOT_ORDER}, tries left ${BOOT_A_LEFT} and ${BOOT_B_LEFT}
else
  echo The environment cannot be read: defaults
fi

for candidate in ${BOOT_ORDER}; do
  if test "${candidate}" = A && test "${BOOT_A_LEFT}" != 0; then
    if test "${BOOT_A_LEFT}" = 1; then setenv BOOT_A_LEFT 0; else setenv BOOT_A_LEFT 1; fi
    run remember
    run use_a
    run start_slot
  fi
  if test "${candidate}" = B && test "${BOOT_B_LEFT}" != 0; then
    if test "${BOOT_B_LEFT}" = 1; then setenv BOOT_B_LEFT 0; else setenv BOOT_B_LEFT 1; fi
    run remember
    run use_b
    run start_slot
  fi
done

# All tries are used up. Reset the counts and start the first slot that starts.
setenv BOOT_A_LEFT 2
setenv BOOT_B_LEFT 2
run remember
for candidate in ${BOOT_ORDER}; do
  if test "${candidate}" = A; then run use_a; else run use_b; fi
  run start_slot
done
echo No slot can be started, trying again in 30 s
sleep 30
reset
