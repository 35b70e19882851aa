/** Manifests of an attacker with write access to a target. Each breaks one rule of the format and has a right hash. */
import { inFormat1, inFormat2 } from '../../support/manifest-file.js';

type Path = readonly (string | number)[];

/** The value with another value at a path; `undefined` removes the key. */
export function changed(value: unknown, [key, ...rest]: Path, next: unknown): unknown {
  if (key === undefined) return next;
  if (Array.isArray(value)) return value.map((item, n) => (n === key ? changed(item, rest, next) : item));
  const entries = new Map(Object.entries(Object(value)));
  entries.set(String(key), changed(entries.get(String(key)), rest, next));
  return Object.fromEntries([...entries].filter(([, item]) => item !== undefined));
}

const set = (path: Path, next: unknown) => (good: unknown) => JSON.stringify(changed(good, path, next));
/** JSON text that JSON.stringify does not write. */
const raw = (path: Path, text: string) => (good: unknown) => JSON.stringify(changed(good, path, 'RAW')).replace('"RAW"', text);

const archive = (more: object) => ({
  source: 'rootfs',
  level: 0,
  compression: 'none',
  bytes: 1,
  entries: 1,
  path: 'image.tar',
  stored_bytes: 1,
  sha256: 'a'.repeat(64),
  ...more,
});
const sources = (count: number) => Array.from({ length: count }, (_, n) => ({ name: `s${n}`, origin: 'new', kind: 'folder' }));
export const archivesOf = (count: number) =>
  Array.from({ length: count }, (_, n) => archive({ source: `s${n}`, path: `2026-11-24_23-03-47/s${n}.tar` }));
const twoSources = (good: unknown, ...names: readonly string[]) =>
  changed(
    changed(
      good,
      ['sources'],
      names.map((name) => ({ name, origin: 'new', kind: 'folder' })),
    ),
    ['archives'],
    [...new Set(names)].map((source) => archive({ source })),
  );

const volume = ['container', 'volume', 0] as const;
const first = ['archives', 0] as const;

/** Indexes in the packed sample's newest run: its archives are rootfs 0, 1, 2, then those of its volumes. */
export const craftedBodies: Readonly<Record<string, (good: unknown) => string | Buffer>> = {
  'no-volume': set(['container', 'volume'], [null]),
  'volume-is-object': set(['container', 'volume'], { length: 1 }),
  'volume-without-name': set([...volume, 'name'], undefined),
  'volume-name-up': set([...volume, 'name'], '..'),
  'volume-name-slash': set([...volume, 'name'], 'a/b'),
  'volume-path-number': set([...volume, 'path'], 7),
  'volume-path-relative': set([...volume, 'path'], 'srv/data'),
  'volume-path-up': set([...volume, 'path'], '/srv/../etc'),
  'volume-path-nul': set([...volume, 'path'], '/srv/\0'),
  'volume-mountpoint-up': set([...volume, 'mountpoint'], '/data/../../etc'),
  'volume-origin': set([...volume, 'origin'], 'engine'),
  'volume-shared-with-number': set([...volume, 'shared_with'], [1]),
  'volume-parent-up': set([...volume, 'parents'], [{ path: '/srv/..', mode: 0o755, uid: 0, gid: 0 }]),
  'volume-parent-mode': set([...volume, 'parents'], [{ path: '/srv', mode: 0o170755, uid: 0, gid: 0 }]),
  'volume-also-at-up': set([...volume, 'also_at'], ['/a/../..']),
  'volume-twice': (good) => JSON.stringify(changed(good, [...volume, 'name'], 'data')),
  'archive-null': set(['archives'], [null]),
  'path-number': set([...first, 'path'], 7),
  'path-up': set([...first, 'path'], '../container-backup@other/image.tar'),
  'path-up-inside': set([...first, 'path'], 'a/../../b'),
  'path-absolute': set([...first, 'path'], '/etc/shadow'),
  'path-empty': set([...first, 'path'], ''),
  'path-empty-part': set([...first, 'path'], 'a//b'),
  'path-dot': set([...first, 'path'], './image.tar'),
  'path-nul': set([...first, 'path'], 'image.tar\0'),
  'path-line': set([...first, 'path'], 'a\nb'),
  'path-long': set([...first, 'path'], 'a'.repeat(1025)),
  'snapshot-up': set([...first, 'snapshot', 'path'], '../image.snar'),
  'snapshot-number': set([...first, 'snapshot'], 7),
  'pieces-up': set([...first, 'pieces'], { folder: '..', count: 1 }),
  'size-negative': set([...first, 'stored_bytes'], -1),
  'size-fraction': set([...first, 'stored_bytes'], 1.5),
  'size-text': set([...first, 'bytes'], '5'),
  'size-beyond-numbers': raw([...first, 'bytes'], '1e400'),
  'size-unsafe': raw([...first, 'bytes'], '9007199254740993000'),
  'entries-null': set([...first, 'entries'], null),
  'hash-short': set([...first, 'sha256'], 'aa'),
  'hash-upper': set([...first, 'sha256'], 'A'.repeat(64)),
  compression: set([...first, 'compression'], 'zstd --rm'),
  'level-first-missing': set([...first, 'level'], 1),
  'level-twice': set(['archives', 1, 'level'], 0),
  'level-order': set(['archives', 1, 'level'], 2),
  'level-fraction': set(['archives', 1, 'level'], 1.5),
  'level-negative': set([...first, 'level'], -1),
  'archive-of-nothing': set([...first, 'source'], 'unknown'),
  'archive-of-proto': set([...first, 'source'], '__proto__'),
  'source-without-archive': set(['archives', 3, 'source'], 'rootfs'),
  'image-twice': (good) => JSON.stringify(changed(changed(good, ['image'], { digest: 'sha256:1' }), ['archives', 0, 'source'], '@image')),
  'image-of-no-digest': set(['archives', 0, 'source'], '@image'),
  'no-sources': set(['sources'], []),
  'sources-null': set(['sources'], null),
  'source-here': (good) => JSON.stringify(twoSources(good, '.')),
  'source-up': (good) => JSON.stringify(twoSources(good, '..')),
  'source-slash': (good) => JSON.stringify(twoSources(good, 'a/b')),
  'source-twice': (good) => JSON.stringify(twoSources(good, 'a', 'a')),
  'source-kind': set(['sources', 0, 'kind'], 'device'),
  'source-excludes-nul': set(['sources', 0, 'excludes'], ['./a\0']),
  'source-excludes-outside': set(['sources', 0, 'excludes'], ['/etc']),
  'sources-10001': (good) => JSON.stringify(changed(changed(good, ['sources'], sources(10_001)), ['archives'], archivesOf(10_001))),
  'container-null': set(['container'], null),
  'container-name-path': set(['container', 'name'], '../x'),
  'container-type-number': set(['container', 'type'], 1),
  'container-state': set(['container', 'state'], 'flying'),
  'native-null': set(['container', 'native'], null),
  'native-text-number': set(['container', 'native', 'text'], 5),
  'network-null': set(['container', 'network'], [null]),
  'job-null': set(['job'], null),
  'job-id-text': set(['job', 'id'], '1'),
  'run-of-another': set(['run'], '2026-11-24_23-03-48'),
  'run-of-no-time': set(['run'], '2026-13-45_00-00-00'),
  'started-number': set(['started'], 5),
  'left-out-text': set(['left_out'], '/'),
  'format-3': set(['format'], 3),
  'must-know': set(['must_know'], ['later']),
  'key-twice': raw(['x'], '{"a":1,"a":2}'),
  'proto-only': () => '{"__proto__":{"format":1}}',
  'no-object': () => 'null',
  deep: raw(['x'], `${'['.repeat(2_000_000)}${']'.repeat(2_000_000)}`),
  'deep-65': raw(['x'], `${'['.repeat(64)}${']'.repeat(64)}`),
  'many-values': raw(['x'], `[${'{},'.repeat(700_000)}1]`),
  'many-keys': (good) =>
    JSON.stringify(
      changed(
        good,
        ['x'],
        Array.from({ length: 600 }, (_, n) => ({ [`k${n}`]: 1 })),
      ),
    ),
  'long-key': set(['x'.repeat(2000)], 1),
  'no-utf8': () => Buffer.from([0x22, 0xff, 0x22]),
  'byte-order-mark': (good) => `\ufeff${JSON.stringify(good)}`,
};

/** Files that are no manifest, whatever their hash. */
export const craftedFiles: Readonly<Record<string, (good: unknown) => Buffer>> = {
  empty: () => Buffer.alloc(0),
  'wrong-hash': (good) => Buffer.from(`${JSON.stringify(good).slice(0, -1)},"sha256":"${'0'.repeat(64)}"}\n`),
  'wrong-hash-of-format-1': (good) => Buffer.from(`${JSON.stringify(changed(good, ['format'], 1))}\n${'0'.repeat(64)}\n`),
  'format-2-in-the-form-of-1': (good) => inFormat1(JSON.stringify(good)),
  'format-1-in-the-form-of-2': (good) => inFormat2(JSON.stringify(changed(good, ['format'], 1))),
  'seal-not-last': (good) => inFormat2(JSON.stringify({ ...Object(good), seal: { appliance: 'a', mac: 'a'.repeat(64) }, x: 1 })),
  'seal-of-another-form': (good) => inFormat2(JSON.stringify(changed(good, ['seal'], { by: 1 }))),
  'seal-twice': (good) =>
    inFormat2(`{"seal":1,${JSON.stringify({ ...Object(good), seal: { appliance: 'a', mac: 'a'.repeat(64) } }).slice(1)}`),
  cut: (good) => inFormat2(JSON.stringify(good)).subarray(0, 500),
  zeros: () => Buffer.alloc(4096),
  huge: (good) => inFormat2(JSON.stringify(changed(good, ['x'], 'x'.repeat(17 << 20)))),
};

/** Manifests that no version writes and every version reads. */
export const oddBodies: Readonly<Record<string, (good: unknown) => string>> = {
  'unknown-keys': (good) => JSON.stringify(changed(changed(good, ['later'], { by: 1 }), ['archives', 0, 'later'], [1])),
  'deep-60': raw(['x'], `${'['.repeat(60)}${']'.repeat(60)}`),
  'brackets-in-text': set(['x'], `"${'[{\\"'.repeat(10_000)}`),
  'proto-key': raw(['x'], '{"__proto__":{"a":1},"constructor":5}'),
  'without-what-has-defaults': (good) =>
    JSON.stringify(
      [['features'], ['left_out'], ['pause_ms'], ['container', 'network'], [...volume, 'shared_with']].reduce<unknown>(
        (value, path) => changed(value, path, undefined),
        good,
      ),
    ),
};
