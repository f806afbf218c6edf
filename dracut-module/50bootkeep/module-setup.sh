#!/bin/sh
# Bootkeep in the initramfs: the agent, its key socket, a network and what the agent reads.
# dracut sources this file; it sets moddir, initdir, dracutsysrootdir and the systemd paths.
# shellcheck disable=SC2154

bootkeep_config=/etc/bootkeep/agent.yaml
bootkeep_agent=/usr/lib/bootkeep/bootkeep-initrd-agent

# bootkeep_value KEY DEFAULT: a plain value of agent.yaml. The agent checks the whole file; this only reads it.
bootkeep_value() {
    _found=$(sed -n "s/^$1:[[:space:]]*[\"']\{0,1\}\([A-Za-z0-9._\/-]*\)[\"']\{0,1\}[[:space:]]*\(#.*\)\{0,1\}\$/\1/p" \
        "${dracutsysrootdir:-}$bootkeep_config" | tail -n 1)
    printf '%s' "${_found:-$2}"
}

# Only when asked for (dracut.conf.d): an initramfs without Bootkeep stays possible.
check() {
    for _needed in "$bootkeep_agent" "$bootkeep_config"; do
        if [ ! -e "${dracutsysrootdir:-}$_needed" ]; then
            derror "bootkeep: $_needed is missing; install it before the initramfs is made"
            return 1
        fi
    done
    return 255
}

depends() {
    echo "systemd $(bootkeep_network) crypt dracut-systemd"
}

# Which dracut module brings the network up: the one that `bootkeep_network=` names (dracut.conf.d), else systemd-networkd
# where it is installed, else NetworkManager.
bootkeep_network() {
    _networkd="${systemdutildir:-/usr/lib/systemd}/systemd-networkd"
    # shellcheck disable=SC2154
    case "${bootkeep_network:-}" in
        systemd-networkd | network-manager) echo "$bootkeep_network" ;;
        '')
            if [ ! -x "${dracutsysrootdir:-}$_networkd" ] && [ -x "${dracutsysrootdir:-}/usr/sbin/NetworkManager" ]; then
                echo network-manager
            else
                echo systemd-networkd
            fi
            ;;
        *)
            derror "bootkeep: bootkeep_network=$bootkeep_network: it is systemd-networkd or network-manager"
            echo systemd-networkd
            ;;
    esac
}

installkernel() {
    # Whatever machine the image is made on, the node must find its TPM, network and disk.
    hostonly='' instmods "=drivers/char/tpm" virtio_net virtio_blk virtio_pci dm_crypt xts
}

install() {
    bootkeep_install_agent
    bootkeep_install_units
    case "$(bootkeep_network)" in
        systemd-networkd) bootkeep_install_networkd ;;
        network-manager) bootkeep_install_network_manager ;;
    esac
    bootkeep_install_volume
    dracut_need_initqueue
}

bootkeep_install_agent() {
    _ca=$(bootkeep_value server_ca /etc/bootkeep/ca.pem)
    inst_multiple "$bootkeep_agent" "$bootkeep_config" "$_ca" || dfatal "bootkeep: a file is missing"
    # With it the agent gives the volume the node's own key; systemd-cryptsetup has no program for that.
    inst_multiple cryptsetup || dfatal "bootkeep: the program cryptsetup is missing (Debian: cryptsetup-bin)"
    # Opened by name at run time, so not seen among the agent's libraries: the TPM's, and glibc's for names (before 2.34).
    inst_libdir_file "libtss2-tcti-device.so*" "libnss_dns.so*"
}

bootkeep_install_units() {
    inst_simple "$moddir/bootkeep-initrd-agent.service" "$systemdsystemunitdir/bootkeep-initrd-agent.service"
    $SYSTEMCTL -q --root "$initdir" add-wants initrd.target bootkeep-initrd-agent.service
    # systemd-cryptsetup asks this socket for the key of the volume, by its name.
    sed "s/@VOLUME@/$(bootkeep_value volume cryptroot)/" "$moddir/bootkeep-initrd-agent.socket.in" \
        > "$initdir$systemdsystemunitdir/bootkeep-initrd-agent.socket"
    $SYSTEMCTL -q --root "$initdir" add-wants cryptsetup-pre.target bootkeep-initrd-agent.socket
}

# The files in /etc/bootkeep/networkd (static addresses, VLAN, bond), or one that takes every wired interface.
bootkeep_install_networkd() {
    _own="${dracutsysrootdir:-}/etc/bootkeep/networkd"
    if [ -n "$(find "$_own" -name '*.network' 2> /dev/null)" ]; then
        for _file in "$_own"/*.network "$_own"/*.netdev "$_own"/*.link; do
            [ ! -e "$_file" ] || inst_simple "$_file" "/etc/systemd/network/${_file##*/}"
        done
    else
        inst_simple "$moddir/50-bootkeep.network" /etc/systemd/network/50-bootkeep.network
    fi
    hostonly='' instmods 8021q bonding
    # systemd-resolved, where it is in the initramfs, tells of name servers itself.
    if [ -e "$initdir${systemdutildir:-/usr/lib/systemd}/systemd-resolved" ]; then
        return 0
    fi
    inst_multiple sed tr mv mkdir
    inst_simple "$moddir/initramfs-resolv" /usr/lib/bootkeep/initramfs-resolv
    for _unit in bootkeep-resolv.path bootkeep-resolv.service; do
        inst_simple "$moddir/$_unit" "$systemdsystemunitdir/$_unit"
    done
    # Once for what is there, and again at each change.
    $SYSTEMCTL -q --root "$initdir" add-wants initrd.target bootkeep-resolv.path bootkeep-resolv.service
    ln -sfn ../run/bootkeep-initramfs/resolv.conf "$initdir/etc/resolv.conf"
}

# The connections in /etc/bootkeep/networkmanager, or NetworkManager's own for every wired interface: `rd.neednet=1`.
bootkeep_install_network_manager() {
    for _file in "${dracutsysrootdir:-}"/etc/bootkeep/networkmanager/*.nmconnection; do
        [ -e "$_file" ] || continue
        inst_simple "$_file" "/etc/NetworkManager/system-connections/${_file##*/}"
        chmod 0600 "$initdir/etc/NetworkManager/system-connections/${_file##*/}"
    done
    mkdir -p "$initdir/etc/cmdline.d" "$initdir/etc/systemd/system/nm-wait-online-initrd.service.d"
    echo 'rd.neednet=1' > "$initdir/etc/cmdline.d/51-bootkeep-network.conf"
    # The agent waits for an address itself. Nothing else is to wait for an hour, or for every interface (`-s`), as this unit would.
    printf '[Service]\nExecStart=\nExecStart=-/usr/bin/nm-online -q -t 30\n' \
        > "$initdir/etc/systemd/system/nm-wait-online-initrd.service.d/50-bootkeep.conf"
    # Its files have another name at each boot: on a tmpfs IMA measures none of them.
    mkdir -p "$initdir/var/lib/NetworkManager" "$initdir/etc/systemd/system/nm-initrd.service.d"
    printf '[Service]\nTemporaryFileSystem=/var/lib/NetworkManager:mode=0700\n' \
        > "$initdir/etc/systemd/system/nm-initrd.service.d/50-bootkeep.conf"
    ln -sfn ../run/NetworkManager/resolv.conf "$initdir/etc/resolv.conf"
}

# How long the volume is waited for, and what happens when it does not come.
bootkeep_install_volume() {
    _deadline=$(bootkeep_value deadline_seconds 600)
    mkdir -p "$initdir/etc/cmdline.d" "$initdir/etc/systemd/system/systemd-cryptsetup@.service.d"
    # dracut gives up after the agent, never before it. What stands on the kernel command line wins over this file.
    _cmdline="rd.retry=$((_deadline + 60))"
    if [ "$(bootkeep_value passphrase false)" = true ]; then
        bootkeep_crypttab ''
    else
        _cmdline="$_cmdline rd.shell=0 rd.emergency=reboot"
        bootkeep_fail_closed "$((_deadline + 30))"
        bootkeep_crypttab ',headless=1'
    fi
    echo "$_cmdline" > "$initdir/etc/cmdline.d/50-bootkeep.conf"
}

# bootkeep_fail_closed SECONDS: nobody is asked for a passphrase, and the unlocking ends.
bootkeep_fail_closed() {
    printf '[Service]\nTimeoutStartSec=%s\n' "$1" \
        > "$initdir/etc/systemd/system/systemd-cryptsetup@.service.d/50-bootkeep.conf"
    mkdir -p "$initdir/etc/systemd/system/bootkeep-initrd-agent.service.d"
    printf '[Unit]\nOnFailure=emergency.target\nOnFailureJobMode=replace-irreversibly\n' \
        > "$initdir/etc/systemd/system/bootkeep-initrd-agent.service.d/50-fail-closed.conf"
    for _unit in systemd-ask-password-console.path systemd-ask-password-console.service; do
        ln -sf /dev/null "$initdir/etc/systemd/system/$_unit"
    done
}

# bootkeep_crypttab OPTIONS: the volume's own line of the node's crypttab. With hostonly the crypt module writes that file.
bootkeep_crypttab() {
    [ -f "${dracutsysrootdir:-}/etc/crypttab" ] || return 0
    awk -v volume="$(bootkeep_value volume cryptroot)" -v more="$1" \
        '$1 == volume { print $1, $2, "none", ($4 == "" ? "luks" : $4) more }' \
        "${dracutsysrootdir:-}/etc/crypttab" > "$initdir/etc/crypttab"
}
