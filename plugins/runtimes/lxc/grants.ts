/** Rights over the host that a restored container would have. The configuration is read line by line, as LXC reads it. A line
 *  known to act inside the container only is ordinary; every other line is a right. */
import type { Grant, RestorePlan, VolumeDescription } from '../../../core/contract/index.js';
import { type Folders, hostPathGrant, printable, quote, sortGrants } from '../../shared/grants.js';
import { within } from '../../shared/paths.js';
import { isPartial } from '../../shared/placement.js';
import { mountEntry, type Setting, settings } from './config.js';
import { applyRemap } from './restore/remap.js';

/** Devices that LXC's own common.conf gives to each container. */
const ordinaryDevices = new Set([
  ...['c *:* m', 'b *:* m', 'c 1:3 rwm', 'c 1:5 rwm', 'c 1:7 rwm', 'c 5:0 rwm', 'c 5:1 rwm', 'c 5:2 rwm', 'c 1:8 rwm', 'c 1:9 rwm'],
  ...['c 136:* rwm', 'c 10:229 rwm'],
]);

const any = /^/;
/** Keys and values that act inside the container only, or limit it. An empty value clears what an include has set, so a key that
 *  takes rights away must have a value. */
const ordinary: readonly (readonly [key: RegExp, value: RegExp])[] = [
  [/^lxc\.(arch|environment|group|hook\.version|idmap|rootfs\.path|uts\.name)$/, any],
  [/^lxc\.(execute\.cmd|init\.(cmd|cwd|gid|groups|uid)|log\.level|no_new_privs|signal\.(halt|reboot|stop))$/, any],
  [/^lxc\.(autodev|autodev\.tmpfs\.size|console\.(buffer\.size|rotate|size)|pty\.max|tty\.max|start\.(auto|delay|order))$/, any],
  [/^lxc\.console\.path$/, /^(none)?$/],
  [/^lxc\.tty\.dir$/, /^[a-z]*$/],
  [/^lxc\.keyring\.session$/, /^1$/],
  [/^lxc\.cgroup2?\.(blkio|cpu|cpuset|hugetlb|io|memory|pids)\.[a-zA-Z0-9_.]+$/, any],
  [/^lxc\.cgroup2?\.devices\.deny$/, /./],
  [/^lxc\.cap\.drop$/, /./],
  [/^lxc\.apparmor\.profile$/, /^(generated|lxc-container-default(-cgns|-with-nesting)?)$/],
  [/^lxc\.apparmor\.allow_incomplete$/, /^0$/],
  [/^lxc\.apparmor\.allow_nesting$/, /^[01]$/],
  [/^lxc\.seccomp\.profile$/, /^\/usr\/share\/lxc\/config\/[\w-]+\.seccomp$/],
  [/^lxc\.include$/, /^\/usr\/share\/lxc\/config\/[\w-][\w.-]*\/?$/],
  [/^lxc\.mount\.auto$/, /^((proc(:mixed)?|sys(:mixed|:ro)?|cgroup((:mixed|:ro)(:force)?)?)([ \t]+|$))*$/],
  [/^lxc\.net\.\d+\.type$/, /^(veth|empty)$/],
  [/^lxc\.net\.\d+\.(flags|hwaddr|link|mtu|name|veth\.pair|ipv[46]\.(address|gateway))$/, any],
];

const isOrdinary = ({ key, value }: Setting): boolean =>
  ordinary.some(([keys, values]) => keys.test(key) && values.test(value)) ||
  (/^lxc\.cgroup2?\.devices\.allow$/.test(key) && ordinaryDevices.has(value.replace(/\s+/g, ' ')));

const codes: readonly (readonly [key: RegExp, code: string])[] = [
  [/^lxc\.(hook|net\.\d+\.script)\./, 'hook'],
  [/^lxc\.include$/, 'include'],
  [/^lxc\.(log|console)\./, 'log_file'],
  [/^lxc\.cgroup2?\.devices\./, 'device'],
  [/^lxc\.cap\./, 'capability'],
  [/^lxc\.(apparmor|selinux|seccomp)\./, 'security_option'],
  [/^lxc\.net\./, 'network'],
  [/^lxc\.namespace\./, 'host_namespace'],
  [/^lxc\.(cgroup|cgroup2)\./, 'cgroup'],
  [/^lxc\.(mount|rootfs)\./, 'mount'],
];

const lineGrant = ({ key, value }: Pick<Setting, 'key' | 'value'>): Grant => ({
  code: codes.find(([keys]) => keys.test(key))?.[1] ?? 'option',
  what: `${printable(key)} = ${printable(value)}`,
});

/** The value without quotes, as LXC reads it. */
const unquote = (value: string): string => /^(["'])(.*)\1$/s.exec(value)?.[2] ?? value;

/** Lines that LXC may read differently from this plugin, which can then neither judge nor move them. LXC also ends a line at a
 *  carriage return, so a comment can hide an option. LXC ignores lines that do not begin with `lxc.`. */
function unreadLines(text: string): Grant[] {
  const read = new Set(settings(text).map(({ line }) => line));
  return text.split('\n').flatMap((content, line) => {
    const plain = content.replace(/\r+$/, '');
    const isPlain = !/[^\P{Cc}\t]/u.test(plain);
    if (isPlain && (read.has(line) || !/^\s*lxc\./.test(plain))) return [];
    return [{ code: 'raw_line', what: printable(plain) }];
  });
}

const ordinaryTypes = new Set(['tmpfs', 'mqueue', 'devpts']);
const ordinaryOptions =
  /^((no)?(atime|diratime|relatime|suid|dev|exec)|strictatime|a?sync|r[ow]|r?bind|r?private|defaults|optional|create=(dir|file)|(size|mode|uid|gid|nr_inodes|nr_blocks|ptmxmode|max)=[\w%]+|newinstance)$/;

/** Rights of a mount entry. A described volume is judged by volumeGrants, and its line is moved to where the plan puts it. */
async function mountGrants(one: Setting, volumes: readonly VolumeDescription[], folders: Folders): Promise<Grant[]> {
  const entry = mountEntry(one.value);
  // LXC splits at blanks and tabs only
  if (entry === undefined || /^["']|[^\S \t]/.test(one.value) || entry.mountpoint.split('/').includes('..')) return [lineGrant(one)];
  const { source, mountpoint, type } = entry;
  const strange = entry.options.filter((option) => option !== '' && !ordinaryOptions.test(option));
  const found = strange.map((option): Grant => ({ code: 'mount_option', what: `${quote(option)} at ${quote(mountpoint)}` }));
  if (!entry.options.some((option) => option === 'bind' || option === 'rbind')) {
    return ordinaryTypes.has(type) ? found : [...found, lineGrant(one)];
  }
  const isVolume = !source.split('/').includes('..') && volumes.some(({ path }) => within(source, path));
  const host = isVolume ? undefined : await hostPathGrant(source, mountpoint, folders);
  return host ? [...found, host] : found;
}

/** Folders of the host into which the run writes. A folder that the client itself chose needs no consent. */
async function volumeGrants({ description, remap }: RestorePlan, folders: Folders): Promise<Grant[]> {
  const found: Grant[] = [];
  for (const { name, origin, path, mountpoint } of description.volume) {
    if (origin === 'new' || remap?.volumes?.[name] !== undefined) continue;
    const grant = await hostPathGrant(path, mountpoint, folders);
    if (grant) found.push(grant);
  }
  return found;
}

/** The rights of a plan. `shares`: folders that any container may mount; `lxcPath`: LXC's own folder, which none may mount.
 *  @throws PluginError invalid, unsupported */
export async function grantsOf(given: RestorePlan, { shares, lxcPath }: { readonly shares: readonly string[]; readonly lxcPath: string }) {
  if (isPartial(given)) return []; // the container stays, and only its own volumes are filled
  const plan = applyRemap(given);
  const { native, volume } = plan.description;
  const folders = { shares, except: [lxcPath] };
  const found: Grant[] = [...unreadLines(native.text), ...(await volumeGrants(plan, folders))];
  for (const one of settings(native.text)) {
    if (!one.key.startsWith('lxc.')) continue;
    if (one.key === 'lxc.mount.entry') found.push(...(await mountGrants(one, volume, folders)));
    else if (!isOrdinary({ ...one, value: unquote(one.value) })) found.push(lineGrant(one));
  }
  return sortGrants(found);
}
