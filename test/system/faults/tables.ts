/** The faults of the suite as tables: what breaks and how, the request, the expected code, and the expected words of the message. */
import { join } from 'node:path';
import type { Body } from '../../support/api-client.js';
import { type Bed, local, type Make, nothing } from './bed.js';
import { cutShort, emptied, flippedByte, movedAway, readOnly, removed, rewritten } from './ways.js';

export type Fault = readonly [title: string, make: Make, more: Body, code: string, ...says: RegExp[]];

export function backupFaults({ a, at, own, volume, host, unmounted, dockerd, socketGone }: Bed): readonly Fault[] {
  const root = join(own, 'rootfs');
  return [
    ['a container that never existed', nothing, { container_id: 'never' }, 'not_found', /\bnever\b/],
    ['a missing volume', () => movedAway(volume), {}, 'not_found', /volume data of utest/, new RegExp(volume)],
    ['a missing root', () => movedAway(root), {}, 'not_found', /the root of utest/, new RegExp(root)],
    ['a missing folder of all containers', () => movedAway(a.lxcPath), {}, 'unavailable', new RegExp(a.lxcPath)],
    ['an exclude that names nothing', nothing, { exclude: ['volume:logs'] }, 'invalid', /volume:logs/, /rootfs, data/],
    ['a share that is not mounted', unmounted, { dest: local('/away/x') }, 'unavailable', /share away is not mounted/, /mount it/],
    ['a read-only share', () => readOnly(at('small')), { dest: local('/small/x') }, 'read_only', /share small/, /mount it/],
    ['Docker: a container that never existed', nothing, { type: 'docker', container_id: 'never' }, 'not_found', /\bnever\b/],
    ['Docker: a missing folder of the host', () => movedAway(host), { type: 'docker' }, 'not_found', new RegExp(host)],
    ['Docker: the engine does not answer', socketGone, { type: 'docker' }, 'unavailable', new RegExp(dockerd.socket), /start the engine/],
  ];
}

/** The runs that the restores name. */
export interface Records {
  /** The runs of `Plain`, the older one first. */
  readonly older: string;
  readonly newer: string;
  /** The run of `Docker`. */
  readonly docker: string;
}

export const inRecord = ({ at }: Bed, record: string, path: string): string => at(`test/jobs/container-backup@${record}/${path}`);
export const from = (portfolio: string) => ({ src: local('/test/jobs', portfolio) });
const another = /another run/;

/** Stored bytes that differ from the written ones. */
export function damageFaults(bed: Bed, { older, newer, docker }: Records): readonly Fault[] {
  const plain = (path: string) => inRecord(bed, 'Plain', path);
  const whole = plain('image.tar');
  const data = plain(`${older}/data.tar`);
  const base = inRecord(bed, 'Zstd', 'image.tar.zst');
  const layer = inRecord(bed, 'Docker', `${docker}/rootfs.tar`);
  const image = inRecord(bed, 'Docker', 'image.tar');
  const inDocker = { type: 'docker', ...from('Docker') };
  return [
    ['a wrong byte in an archive', () => flippedByte(data), from('Plain'), 'damaged', /data\.tar is damaged/, another],
    ['a wrong byte in a compressed archive', () => flippedByte(base), from('Zstd'), 'damaged', /image\.tar\.zst/, another],
    ['a wrong first byte of a base', () => flippedByte(whole, 0), from('Plain'), 'damaged', /image\.tar is damaged/, another],
    ['a wrong last byte of a base', () => flippedByte(whole, 0.9999999), from('Plain'), 'damaged', /image\.tar is damaged/, another],
    [
      'a missing archive',
      () => removed(plain(`${newer}/data.tar`)),
      from('Plain'),
      'damaged',
      new RegExp(`${newer}/data\\.tar is missing`),
      another,
    ],
    ['a missing base', () => removed(base), from('Zstd'), 'damaged', /image\.tar\.zst is missing/, another],
    ['a cut archive', () => cutShort(whole), from('Plain'), 'damaged', /image\.tar has \d+ bytes instead of \d+/, another],
    [
      'a wrong byte in a manifest',
      () => flippedByte(plain(`${newer}/manifest.json`)),
      from(`Plain/${newer}`),
      'damaged',
      new RegExp(newer),
      another,
    ],
    ['Docker: a wrong byte in the layer', () => flippedByte(layer), inDocker, 'damaged', /rootfs\.tar/, another],
    ['Docker: a cut image', () => cutShort(image), inDocker, 'damaged', /image\.tar has/, another],
  ];
}

export function restoreFaults({ unmounted, dockerd, socketGone }: Bed): readonly Fault[] {
  const unmountedSays = [/share away is not mounted/, /mount it/] as const;
  return [
    ['a run of another engine', nothing, from('Docker'), 'unsupported', /backup of a docker container/, /type docker/],
    ['a run that does not exist', nothing, from('Plain/2001-01-01_00-00-00'), 'not_found', /2001-01-01_00-00-00/, /container-backup@Plain/],
    ['a share that is not mounted', unmounted, { src: local('/away/x', 'Away') }, 'unavailable', ...unmountedSays],
    ['Docker: a run of another engine', nothing, { type: 'docker', ...from('Plain') }, 'unsupported', /of a lxc container/, /type lxc/],
    [
      'Docker: the engine does not answer',
      socketGone,
      { type: 'docker', ...from('Docker') },
      'unavailable',
      new RegExp(dockerd.socket),
      /start the engine/,
    ],
  ];
}

/** Manifests that cannot be used, by reason. */
export function brokenManifests(file: string, run: string): Readonly<Record<string, Make>> {
  const changed = (from: string, to: string) => () => rewritten(file, (json) => json.replace(from, to));
  return {
    'cut in the middle': () => cutShort(file, 300),
    empty: () => emptied(file),
    'of a later format': changed('"format":2', '"format":3'),
    'of format 1 in the form of format 2': changed('"format":2', '"format":1'),
    'with what only a later version knows': changed('"format":2', '"format":2,"must_know":["later"]'),
    'no JSON, under a hash that holds': () => rewritten(file, () => 'nonsense'),
    'of another run': changed(`"run":"${run}"`, '"run":"2001-01-01_00-00-00"'),
    'leading out of the record': changed('"path":"image.tar"', '"path":"../../image.tar"'),
  };
}
