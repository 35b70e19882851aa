/** Settings that give a container a right over the host, each with what a plan lists for it. */

/** What of a `docker inspect` text is otherwise than an ordinary container's. */
export interface DockerChange {
  readonly host?: object;
  readonly config?: object;
  readonly mounts?: readonly object[];
  readonly networks?: object;
  readonly beside?: readonly object[];
}

const bind = (Source: string, Destination: string, RW = true) => ({ Type: 'bind', Source, Destination, RW });
const front = (network: object) => ({ networks: { front: {} }, beside: [{ Name: 'front', Driver: 'bridge', IPAM: {}, ...network }] });
const subnet = (Subnet: string) => front({ IPAM: { Driver: 'default', Config: [{ Subnet }] } });

/** `%share` is a folder of a share, `%link` a link in it that leads out. */
export const dockerRights: readonly (readonly [change: DockerChange, ...grants: string[]])[] = [
  [{ host: { Privileged: true } }, 'privileged Privileged true'],
  [{ host: { privileged: true } }, 'unknown_option HostConfig.privileged = true'],
  [{ host: { Brand: { new: 1 } } }, 'unknown_option HostConfig.Brand = {"new":1}'],
  [{ config: { hostconfig: { Privileged: true } } }, 'unknown_option Config.hostconfig = {"Privileged":true}'],
  [{ config: { NetworkingConfig: {}, networkingConfig: [1] } }, 'unknown_option Config.networkingConfig = [1]'],
  [{ host: { CapAdd: ['NET_ADMIN', 'CAP_CHOWN', 'kill'], CapDrop: ['ALL'] } }, 'capability CapAdd NET_ADMIN'],
  [{ host: { CapAdd: ['ALL'] } }, 'capability CapAdd ALL'],
  [{ host: { SecurityOpt: ['no-new-privileges', 'seccomp=unconfined'] } }, 'security_option SecurityOpt seccomp=unconfined'],
  [
    { host: { Devices: [{ PathOnHost: '/dev/sda', PathInContainer: '/dev/sda' }] } },
    'device Devices {"PathOnHost":"/dev/sda","PathInContainer":"/dev/sda"}',
  ],
  [{ host: { DeviceRequests: [{ Count: -1 }] } }, 'device DeviceRequests {"Count":-1}'],
  [{ host: { DeviceCgroupRules: ['a *:* rwm'] } }, 'device DeviceCgroupRules "a *:* rwm"'],
  [{ host: { PidMode: 'host' } }, 'host_namespace PidMode host'],
  [{ host: { PidMode: 'container:db' } }, 'host_namespace PidMode container:db'],
  [{ host: { IpcMode: 'host' } }, 'host_namespace IpcMode host'],
  [{ host: { UTSMode: 'host' } }, 'host_namespace UTSMode host'],
  [{ host: { UsernsMode: 'host' } }, 'host_namespace UsernsMode host'],
  [{ host: { NetworkMode: 'host' } }, 'host_namespace NetworkMode host'],
  [{ host: { NetworkMode: 'container:db' } }, 'host_namespace NetworkMode container:db'],
  [{ host: { CgroupnsMode: 'host' } }, 'host_namespace CgroupnsMode host'],
  [{ host: { CgroupParent: '/other' } }, 'cgroup CgroupParent /other'],
  [{ host: { Runtime: 'nvidia' } }, 'engine_option Runtime nvidia'],
  [{ host: { Annotations: { a: 'b' } } }, 'engine_option Annotations {"a":"b"}'],
  [{ host: { OomScoreAdj: -1000 } }, 'memory OomScoreAdj -1000'],
  [{ host: { OomKillDisable: true } }, 'memory OomKillDisable true'],
  [{ host: { CpuRealtimeRuntime: 950000 } }, 'realtime CpuRealtimeRuntime 950000'],
  [{ host: { Sysctls: { 'net.ipv4.ip_forward': '1' } } }, 'kernel_setting Sysctls net.ipv4.ip_forward = 1'],
  [{ host: { Ulimits: [{ Name: 'nofile' }, { Name: 'rtprio', Hard: 99 }] } }, 'limit Ulimits {"Name":"rtprio","Hard":99}'],
  [{ host: { Links: ['/db:/web/db'] } }, 'other_container Links db:db'],
  [
    { host: { LogConfig: { Type: 'syslog', Config: { 'syslog-address': 'unix:///x' } } } },
    'log LogConfig driver syslog',
    'log LogConfig syslog-address = unix:///x',
  ],
  [
    { host: { MaskedPaths: [] } },
    ...['acpi', 'kcore', 'keys', 'latency_stats', 'sched_debug', 'scsi', 'timer_list', 'timer_stats'].map(
      (one) => `unmasked_path MaskedPaths /proc/${one}`,
    ),
    'unmasked_path MaskedPaths /sys/firmware',
  ],
  [{ host: { ReadonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys'] } }, 'unmasked_path ReadonlyPaths /proc/sysrq-trigger'],
  [{ host: { StorageOpt: { size: '1G', other: 'x' } } }, 'engine_option StorageOpt other = x'],
  [{ host: { VolumeDriver: 'nfs' } }, 'volume_option VolumeDriver nfs'],
  [{ host: { Binds: ['/srv/media:/media'] }, mounts: [bind('/srv/media', '/media')] }, 'host_folder /srv/media at /media'],
  [{ mounts: [bind('/srv/media', '/media')] }, 'host_folder /srv/media at /media'],
  [{ host: { Binds: ['/srv/media:/media'] } }, 'host_folder /srv/media at /media'],
  [{ host: { Binds: ['/:/host:ro'] }, mounts: [bind('/', '/host', false)] }, 'system_path / at /host'],
  [{ host: { Binds: ['/srv/docker.sock:/s'] }, mounts: [bind('/srv/docker.sock', '/s')] }, 'socket /srv/docker.sock at /s'],
  [{ host: { Binds: ['/etc/timezone:/etc/timezone'] } }, 'system_path /etc/timezone at /etc/timezone'],
  [{ host: { Binds: ['/dev/dri:/dev/dri'] } }, 'device /dev/dri at /dev/dri'],
  [{ host: { Binds: ['%share/../x:/x'] } }, 'host_folder %folder/x at /x'],
  [{ host: { Binds: ['%link/cron.d:/x'] } }, 'system_path %link/cron.d (leads to /etc/cron.d) at /x'],
  [{ host: { Binds: ['%share/a:/a:rshared'] } }, 'mount_option rshared at /a'],
  [
    { host: { Mounts: [{ Type: 'bind', Source: '%share/a', Target: '/a', BindOptions: { Propagation: 'rslave' } }] } },
    'mount_option rslave at /a',
  ],
  [
    {
      host: {
        Mounts: [
          { Type: 'volume', Source: 'v1', Target: '/v', VolumeOptions: { DriverConfig: { Options: { type: 'none', device: '/' } } } },
        ],
      },
      mounts: [{ Type: 'volume', Name: 'v1', Destination: '/v', RW: true }],
    },
    'unknown_option mount at /v.Options = {"type":"none","device":"/"}',
  ],
  [{ host: { Binds: ['v1:/v'] } }, 'mount "v1:/v"'],
  [{ host: { Binds: ['victim:/v'] }, mounts: [{ Type: 'volume', Name: 'v1', Destination: '/v', RW: true }] }, 'mount "victim:/v"'],
  [{ host: { Binds: ['v1:/v/'] }, mounts: [{ Type: 'volume', Name: 'v1', Destination: '/v', RW: true }] }, 'mount "v1:/v/"'],
  [{ mounts: [{ Type: 'volume', Name: '/etc', Destination: '/v', RW: true }] }, 'mount volume /etc at /v', 'system_path /etc at /v'],
  [
    { mounts: [{ Type: 'volume', Name: 'v1', Destination: '/v:rshared', RW: true }] },
    'mount "" at /v:rshared',
    'mount "v1:/v:rshared"',
    'mount_option rshared at /v',
  ],
  [{ mounts: [{ Type: 'volume', Name: 'taken', Destination: '/v', RW: true }] }, 'other_volume taken at /v'],
  [
    { host: { NetworkMode: 'front' }, ...front({ Driver: 'macvlan', Options: { parent: 'eth0' } }) },
    'network front driver "macvlan"',
    'network front option parent = "eth0"',
  ],
  [front({ Options: { 'com.docker.network.bridge.name': 'br0' } }), 'network front option com.docker.network.bridge.name = "br0"'],
  [front({ IPAM: { Driver: 'dhcp' } }), 'unknown_option network front IPAM.Driver = dhcp'],
  [subnet('1.1.1.0/24'), 'network front subnet "1.1.1.0/24"'],
  [subnet('10.0.0.0/7'), 'network front subnet "10.0.0.0/7"'],
  [subnet('192.168.77.128/25'), 'network front subnet "192.168.77.128/25"'],
  [subnet('2001:db8::/64'), 'network front subnet "2001:db8::/64"'],
  [{ networks: { front: { IPPrefixLen: 1, IPAMConfig: { IPv4Address: '10.1.2.3' } } } }, 'network front subnet "0.0.0.0/1"'],
  [{ networks: { front: { DriverOpts: { a: 'b' } } } }, 'unknown_option network front DriverOpts.a = b'],
];

/** What an LXC configuration is given beside an ordinary container's lines. */
export const lxcRights: readonly (readonly [lines: string, ...grants: string[]])[] = [
  ['lxc.hook.pre-start = /bin/touch /x', 'hook lxc.hook.pre-start = /bin/touch /x'],
  ['lxc.hook.autodev = /x', 'hook lxc.hook.autodev = /x'],
  ['  lxc.hook.start-host\t=\t"/x"  ', 'hook lxc.hook.start-host = "/x"'],
  ['# hi\rlxc.hook.mount = /x', 'raw_line # hi\\u{d}lxc.hook.mount = /x'],
  ['lxc.uts.name = box\0lxc.hook.mount = /x', 'raw_line lxc.uts.name = box\\u{0}lxc.hook.mount = /x'],
  ['lxc.hook.mount', 'raw_line lxc.hook.mount'],
  ['lxc.mount entry = /etc etc none bind 0 0', 'raw_line lxc.mount entry = /etc etc none bind 0 0'],
  ['lxc.include = /srv/evil.conf', 'include lxc.include = /srv/evil.conf'],
  [
    'lxc.include = /usr/share/lxc/config/../../../../srv/evil.conf',
    'include lxc.include = /usr/share/lxc/config/../../../../srv/evil.conf',
  ],
  ['lxc.log.file = /etc/cron.d/x', 'log_file lxc.log.file = /etc/cron.d/x'],
  ['lxc.console.logfile = /etc/x', 'log_file lxc.console.logfile = /etc/x'],
  ['lxc.console.path = /dev/tty1', 'log_file lxc.console.path = /dev/tty1'],
  ['lxc.cgroup.devices.allow = a', 'device lxc.cgroup.devices.allow = a'],
  ['lxc.cgroup2.devices.allow = b 8:* rwm', 'device lxc.cgroup2.devices.allow = b 8:* rwm'],
  ['lxc.cgroup2.devices.allow = c 10:200 rwm', 'device lxc.cgroup2.devices.allow = c 10:200 rwm'],
  ['lxc.cgroup.devices.deny =', 'device lxc.cgroup.devices.deny = '],
  ['lxc.cgroup.release_agent = /x', 'cgroup lxc.cgroup.release_agent = /x'],
  ['lxc.cgroup.dir = /', 'cgroup lxc.cgroup.dir = /'],
  ['lxc.cap.keep = sys_module', 'capability lxc.cap.keep = sys_module'],
  ['lxc.cap.drop =', 'capability lxc.cap.drop = '],
  ['lxc.apparmor.profile = unconfined', 'security_option lxc.apparmor.profile = unconfined'],
  ['lxc.apparmor.raw = mount,', 'security_option lxc.apparmor.raw = mount,'],
  ['lxc.seccomp.profile =', 'security_option lxc.seccomp.profile = '],
  ['lxc.seccomp.profile = /srv/x.seccomp', 'security_option lxc.seccomp.profile = /srv/x.seccomp'],
  ['lxc.selinux.context = unconfined_u', 'security_option lxc.selinux.context = unconfined_u'],
  ['lxc.prlimit.rtprio = 99', 'option lxc.prlimit.rtprio = 99'],
  ['lxc.sysctl.kernel.core_pattern = |/x', 'option lxc.sysctl.kernel.core_pattern = |/x'],
  ['lxc.proc.oom_score_adj = -1000', 'option lxc.proc.oom_score_adj = -1000'],
  ['lxc.net.1.type = phys', 'network lxc.net.1.type = phys'],
  ['lxc.net.1.type = none', 'network lxc.net.1.type = none'],
  ['lxc.net.1.type = macvlan', 'network lxc.net.1.type = macvlan'],
  ['lxc.net.0.script.up = /x', 'hook lxc.net.0.script.up = /x'],
  ['lxc.net.0.veth.ipv4.route = 1.1.1.1/32', 'network lxc.net.0.veth.ipv4.route = 1.1.1.1/32'],
  ['lxc.namespace.share.pid = 1', 'host_namespace lxc.namespace.share.pid = 1'],
  ['lxc.namespace.keep = net', 'host_namespace lxc.namespace.keep = net'],
  ['lxc.rootfs.mount = /etc', 'mount lxc.rootfs.mount = /etc'],
  ['lxc.rootfs.options = shared', 'mount lxc.rootfs.options = shared'],
  ['lxc.mount.auto = proc:rw', 'mount lxc.mount.auto = proc:rw'],
  ['lxc.mount.auto = sys:ro cgroup-full:rw:force', 'mount lxc.mount.auto = sys:ro cgroup-full:rw:force'],
  ['lxc.mount.fstab = /srv/fstab', 'mount lxc.mount.fstab = /srv/fstab'],
  ['lxc.mount.entry = /etc host none rbind 0 0', 'system_path /etc at host'],
  ['lxc.mount.entry = /srv/media media none bind,ro 0 0', 'host_folder /srv/media at media'],
  ['lxc.mount.entry = /dev/sda dev/sda none bind,create=file 0 0', 'device /dev/sda at dev/sda'],
  ['lxc.mount.entry = /dev/sda1 disk ext4 rw 0 0', 'mount lxc.mount.entry = /dev/sda1 disk ext4 rw 0 0'],
  ['lxc.mount.entry = proc proc2 proc rw 0 0', 'mount lxc.mount.entry = proc proc2 proc rw 0 0'],
  ['lxc.mount.entry = etc etc none bind 0 0', 'host_folder etc at etc'],
  ['lxc.mount.entry = %lxc/other/rootfs x none bind 0 0', 'host_folder %lxc/other/rootfs at x'],
  ['lxc.mount.entry = %own/volumes/data/../../../../etc x none bind 0 0', 'host_folder %etc at x'],
  ['lxc.mount.entry = %link/cron.d x none bind 0 0', 'system_path %link/cron.d (leads to /etc/cron.d) at x'],
  ['lxc.mount.entry = %share/a a none bind,rshared 0 0', 'mount_option rshared at a'],
  ['lxc.mount.entry = tmpfs ../../x tmpfs create=dir 0 0', 'mount lxc.mount.entry = tmpfs ../../x tmpfs create=dir 0 0'],
  ['lxc.mount.entry = "/etc x none bind 0 0"', 'mount lxc.mount.entry = "/etc x none bind 0 0"'],
  ['lxc.brand.new = 1', 'option lxc.brand.new = 1'],
  ['lxc.hookfoo = 1', 'option lxc.hookfoo = 1'],
];

/** Lines that give no right. */
export const lxcOrdinary: readonly string[] = [
  'lxc.include = /usr/share/lxc/config/common.conf',
  'lxc.include = /usr/share/lxc/config/common.conf.d/',
  'lxc.include = /usr/share/lxc/config/userns.conf',
  'lxc.arch = linux64\nlxc.start.auto = 1\nlxc.start.delay = 5\nlxc.start.order = 10\nlxc.group = onboot',
  'lxc.net.0.link = lxcbr0\nlxc.net.0.flags = up\nlxc.net.0.mtu = 1500\nlxc.net.0.ipv4.address = 10.0.3.7/24\nlxc.net.0.ipv4.gateway = auto',
  'lxc.cgroup2.memory.max = 512M\nlxc.cgroup.cpuset.cpus = 0-1\nlxc.cgroup2.pids.max = 500',
  'lxc.cgroup.devices.deny = a\nlxc.cgroup.devices.allow = c  1:3 rwm\nlxc.cgroup2.devices.allow = c *:* m',
  'lxc.cap.drop = sys_module\nlxc.apparmor.profile = generated\nlxc.apparmor.allow_nesting = 1',
  'lxc.seccomp.profile = /usr/share/lxc/config/common.seccomp',
  'lxc.mount.auto = cgroup:mixed proc:mixed sys:mixed',
  'lxc.mount.entry = %share/a\\040b a none bind,create=dir,optional 0 0',
  'lxc.mount.entry = shm dev/shm tmpfs rw,nosuid,nodev,mode=1777,size=50% 0 0',
  'lxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536',
  'lxc.init.cmd = /bin/init\nlxc.environment = A=b\nlxc.tty.max = 4\nlxc.pty.max = 1024\nlxc.signal.halt = SIGTERM',
  '# a comment, with = and ünïcode 🐳\r\nlxc.uts.name = box\r\nnot lxc at all\n\n',
];
