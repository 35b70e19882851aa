import { machine } from 'node:os';
import type { ContainerState, Description, VolumeDescription } from '../../../core/contract/index.js';
import { innerMountReason, mountsInside } from '../../shared/mounts.js';
import { parentsOf } from '../../shared/swap/index.js';
import { setting, settings } from './config.js';
import { mountsOf } from './volumes.js';

/** uname's architecture name by Debian's and LXC's. */
const archNames: Readonly<Record<string, string>> = {
  amd64: 'x86_64',
  arm64: 'aarch64',
  armel: 'armv7l',
  armhf: 'armv7l',
  i386: 'i686',
  linux32: 'i686',
  linux64: 'x86_64',
  x86: 'i686',
};

function networks(text: string): Description['network'] {
  const found = new Map<string, Map<string, string>>();
  for (const { key, value } of settings(text)) {
    const [, index, field] = /^lxc\.net\.(\d+)\.(.+)$/.exec(key) ?? [];
    if (index === undefined || field === undefined) continue;
    found.set(index, (found.get(index) ?? new Map<string, string>()).set(field, value));
  }
  return [...found].map(([index, fields]) => {
    const address = fields.get('ipv4.address') ?? fields.get('ipv6.address');
    const mac = fields.get('hwaddr');
    return {
      name: fields.get('link') ?? fields.get('name') ?? fields.get('type') ?? index,
      ...(address === undefined ? {} : { address }),
      ...(mac === undefined ? {} : { mac }),
    };
  });
}

function resources(text: string): Description['resource'] {
  const resource: Record<string, number | string> = {};
  for (const { key, value } of settings(text)) {
    const [, name] = /^lxc\.cgroup2?\.(.+)$/.exec(key) ?? [];
    if (name === undefined) continue;
    const before = resource[name];
    // keys like devices.allow may occur more than once
    if (before !== undefined) resource[name] = `${before}, ${value}`;
    else resource[name] = /^\d{1,15}$/.test(value) ? Number(value) : value;
  }
  return resource;
}

/** Describes a container by its configuration. `own` is its folder; `users` returns the other containers that mount a path. */
export async function descriptionOf(
  name: string,
  text: string,
  o: { own: string; state: ContainerState; users(path: string): Promise<readonly string[]> },
): Promise<Description> {
  const { volumes, left_out } = await mountsOf(text, o.own);
  const volume: VolumeDescription[] = [];
  const inner: { path: string; reason: string }[] = [];
  for (const { kind, real, ...rest } of volumes) {
    volume.push({
      ...rest,
      shared_with: await o.users(rest.path),
      ...(kind && { parents: await parentsOf(real) }),
    });
    if (kind !== 'folder') continue;
    for (const { path } of await mountsInside(real)) inner.push({ path, reason: innerMountReason });
  }
  const arch = setting(text, 'lxc.arch');
  return {
    arch: arch === undefined || arch === '' ? machine() : (archNames[arch] ?? arch),
    autostart: setting(text, 'lxc.start.auto') === '1',
    image: '',
    left_out: [...left_out, ...inner],
    name,
    native: { format: 'lxc-config', text },
    network: networks(text),
    resource: resources(text),
    state: o.state,
    type: 'lxc',
    volume,
  };
}
