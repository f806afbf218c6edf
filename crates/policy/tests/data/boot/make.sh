#!/bin/sh
# Makes the images of this folder and what systemd and sbsigntool say of them: binutils, sbsigntool, openssl, and
# systemd-measure of systemd 252 with swtpm. The stub is a stand-in that has no code, only what tells which sections it knows.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
swtpm socket --tpm2 --tpmstate dir="$work" --server type=unixio,path="$work/tpm" \
    --ctrl type=unixio,path="$work/tpm.ctrl" --flags not-need-init,startup-clear &
tpm=$!
trap 'swtpm_ioctl --unix "$work/tpm.ctrl" -s; wait $tpm; rm -rf "$work"' EXIT

image() { # NAME SOURCE
    printf '%s\n' "$2" | as --64 -o "$work/$1.o" -
    objcopy -O pe-x86-64 "$work/$1.o" "$work/$1.obj"
    ld -m i386pep --subsystem 10 --image-base 0 -e 0 --no-insert-timestamp -s -o "$work/$1.efi" "$work/$1.obj"
}

image stub '.section .text,"ax"
ret
.section .rdata,"a"
.asciz ".linux"
.asciz ".osrel"
.asciz ".cmdline"
.asciz ".initrd"
.asciz ".splash"
.asciz ".dtb"
.asciz ".pcrsig"
.asciz ".pcrpkey"
.section .sdmagic,"a"
.ascii "#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####"'
image kernel-50 '.section .text,"ax"
ret
.ascii "kernel 6.1.0-50-amd64"'
image kernel-56 '.section .text,"ax"
ret
.ascii "kernel 6.1.0-56-amd64"'

openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=example -days 3650 -keyout "$work/key" -out "$work/cert" 2>/dev/null
openssl genrsa -out "$work/pcr.key" 2048 2>/dev/null
openssl rsa -in "$work/pcr.key" -pubout -out pcrpkey.pem 2>/dev/null

for version in 50 56; do
    kernel=$work/kernel-$version.efi
    cp "$kernel" "kernel-$version.efi"
    printf 'ID=debian\n' > "$work/osrel"
    printf 'root=/dev/mapper/cryptroot ro quiet v%s\n' "$version" > "$work/cmdline"
    printf 'initramfs %s' "$version" > "$work/initrd"
    set -- --linux="$kernel" --osrel="$work/osrel" --cmdline="$work/cmdline" --initrd="$work/initrd" \
        --pcrpkey=pcrpkey.pem --bank=sha256
    measure=/usr/lib/systemd/systemd-measure
    "$measure" calculate "$@" --phase=: --phase=enter-initrd 2> /dev/null > "uki-$version.pcr11"
    "$measure" sign "$@" --private-key="$work/pcr.key" --public-key=pcrpkey.pem --phase=: --phase=enter-initrd \
        --tpm2-device="swtpm:path=$work/tpm" > "pcrsig-$version.json"
    objcopy --add-section .osrel="$work/osrel" --change-section-vma .osrel=0x20000 \
        --add-section .cmdline="$work/cmdline" --change-section-vma .cmdline=0x30000 \
        --add-section .pcrpkey=pcrpkey.pem --change-section-vma .pcrpkey=0x40000 \
        --add-section .pcrsig="pcrsig-$version.json" --change-section-vma .pcrsig=0x50000 \
        --add-section .initrd="$work/initrd" --change-section-vma .initrd=0x60000 \
        --add-section .linux="$kernel" --change-section-vma .linux=0x70000 \
        "$work/stub.efi" "uki-$version.efi"
done
sbsign --key "$work/key" --cert "$work/cert" --output signed.efi uki-50.efi
