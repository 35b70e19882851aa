/** Checks addresses and paths that a client names. */
import { stat } from 'node:fs/promises';
import { BlockList, isIP } from 'node:net';
import { join } from 'node:path';
import type { Location } from '../jobs/job.js';
import { addressOf } from '../targets/address.js';
import type { ApiDeps } from './deps.js';
import { ApiError, invalidField } from './errors.js';

// Link-local, multicast and broadcast ranges: a user's server is never there, but cloud metadata is.
const refused = new BlockList();
refused.addSubnet('169.254.0.0', 16, 'ipv4');
refused.addSubnet('224.0.0.0', 4, 'ipv4');
refused.addAddress('255.255.255.255', 'ipv4');
refused.addSubnet('fe80::', 10, 'ipv6');
refused.addSubnet('ff00::', 8, 'ipv6');

/** The host in `host`, `host:port` or `[v6]:port`. @throws ValidationError */
export function hostOf(ipaddr: string): string {
  const host = addressOf(ipaddr)?.host;
  if (host === undefined) throw invalidField('/ipaddr', 'must be host, host:port or [v6]:port');
  let canonical: string;
  try {
    // The URL parser turns 0xa9fe0101 and 2851995905 into dotted form for the comparison.
    canonical = new URL(`http://${host.includes(':') ? `[${host}]` : host}/`).hostname.replace(/^\[|\]$/g, '');
  } catch {
    throw invalidField('/ipaddr', 'is not an address');
  }
  const family = isIP(canonical);
  if (family !== 0 && refused.check(canonical, family === 6 ? 'ipv6' : 'ipv4')) {
    throw invalidField('/ipaddr', 'must not be a link-local or multicast address');
  }
  return host;
}

function badPart(part: string): boolean {
  return part === '.' || part === '..' || part === '' || part.includes('\0');
}

/** Splits a job's path into parts; ignores a slash at either end. @throws ValidationError */
export function partsOf(path: string, pointer: string): string[] {
  const inner = path.replace(/^\/|\/$/g, '');
  const parts = inner === '' ? [] : inner.split('/');
  if (parts.some(badPart)) throw invalidField(pointer, "must not hold '.', '..' or empty parts");
  return parts;
}

/** @throws ValidationError for a local path outside every share and for an unknown target */
export async function checkLocation(deps: ApiDeps, location: Location, key: 'dest' | 'src'): Promise<void> {
  const parts = partsOf(location.path, `/${key}/path`);
  if (location.target === 'local') {
    const share = parts[0];
    if (location.path.startsWith('/') && share !== undefined && Object.hasOwn(deps.localTarget.shares, share)) return;
    const names = Object.keys(deps.localTarget.shares).sort().join(', ');
    throw invalidField(`/${key}/path`, `must be /<share>/<folder> with one of the shares: ${names || 'none is configured'}`);
  }
  if (location.profile === undefined || (await deps.store.targets.get(location.profile)) === undefined) {
    throw invalidField(`/${key}/profile`, `there is no target ${location.profile}`);
  }
}

/** A key that is equal for equal locations. For a share: device and inode of the folder or its nearest existing parent, links
 *  followed. For a target: the path without case, since some servers ignore case. */
export async function locationOf(deps: ApiDeps, { target, path, profile }: Location): Promise<string> {
  const parts = partsOf(path, '/dest/path');
  if (target === 'remote') return `${profile}/${parts.join('/').normalize('NFC').toLowerCase()}`;
  const [share = '', ...below] = parts;
  const root = deps.localTarget.shares[share];
  if (root === undefined) return `${share}/${below.join('/')}`;
  for (let there = below.length; there >= 0; there--) {
    const found = await stat(join(root, ...below.slice(0, there))).catch(() => undefined); // absent: try its parent
    if (found) return [found.dev, found.ino, ...below.slice(there)].join('/');
  }
  return `${share}/${below.join('/')}`;
}

/** @throws ValidationError unless a plugin of the kind has the id */
export function checkType(deps: ApiDeps, type: string, kind: 'target' | 'runtime'): void {
  const fits = deps.plugins.reports.filter((r) => (r.kind ?? kind) === kind).map((r) => r.id);
  if (!fits.includes(type)) throw invalidField('/type', `must be one of the ${kind} plugins: ${fits.join(', ') || 'none is installed'}`);
}

/** The path after `/dirs`, decoded once, without slashes at its ends. @throws ApiError bad_request */
export function dirsPath(path: string): string {
  const raw = path.slice(path.indexOf('/dirs') + '/dirs'.length).replace(/^\//, '');
  let decoded: string;
  try {
    decoded = decodeURIComponent(raw).replace(/\/$/, '');
  } catch {
    throw new ApiError('bad_request', 'the path is not well percent-encoded');
  }
  if (decoded !== '' && decoded.split('/').some(badPart)) {
    throw new ApiError('bad_request', "the path must be relative and hold no '.', '..' or empty parts");
  }
  return decoded;
}
