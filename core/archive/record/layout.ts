/** Names on a target: one record for each job, `container-backup@<job_name>/`, with one folder for each run. */
import { PluginError } from '../../contract/index.js';

export const recordPrefix = 'container-backup@';
export const manifestName = 'manifest.json';
export const metadataName = 'backup-metadata';
export const verifiedName = 'verified.json';
const runPattern = /^\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}$/;
/** A name has four digits for the year, and a later run must get a name after it. */
const lastTime = Date.UTC(9999, 0);

export type Compression = 'none' | 'zstd';

declare const inRecord: unique symbol;
/** A path relative to a record that cannot lead out of it. Only isRecordPath and recordPath make one. */
export type RecordPath = string & { readonly [inRecord]: true };

/** Whether a path is relative and holds no empty part, '.', '..' or control character. */
export const isRecordPath = (path: string): path is RecordPath =>
  path.split('/').every((part) => !['', '.', '..'].includes(part) && !/\p{Cc}/u.test(part));

/** @throws PluginError invalid */
export function recordPath(path: string): RecordPath {
  if (isRecordPath(path)) return path;
  throw new PluginError('invalid', `${JSON.stringify(path)} is no path in a record`);
}

export const recordFolder = (jobName: string): string => `${recordPrefix}${jobName}`;
/** Whether it is the name of a run: a valid time, in the form in which names sort by time. Anybody can make folders on a
 *  target. */
export const isRunName = (name: string): boolean => runPattern.test(name) && runTime(name) < lastTime && runName(runTime(name)) === name;

/** A run's name from epoch ms: UTC, without colons, which SMB does not allow. */
export function runName(time: number): string {
  return new Date(time).toISOString().slice(0, 19).replace('T', '_').replaceAll(':', '-');
}

/** Epoch ms of a run's name. */
export const runTime = (name: string): number => Date.parse(`${name.slice(0, 10)}T${name.slice(11).replaceAll('-', ':')}Z`);

export function archiveName(stem: string, compression: Compression): string {
  return compression === 'zstd' ? `${stem}.tar.zst` : `${stem}.tar`;
}

/** Whether a file in a run's folder belongs to this format, whole or unfinished. */
export const isRunFile = (name: string): boolean =>
  name === manifestName || /\.(tar|tar\.zst|snar\.zst|blocks\.table|part)$/.test(name) || name.startsWith('.');

/** Whether a file at the top of a record belongs to this format, so that it may be collected. */
export const isBaseName = (name: string): boolean => /^image(-[0-9_-]+)?(\.blocks)?\.(tar|tar\.zst|snar\.zst|table)$/.test(name);

/** The path of an archive with another suffix, such as that of its snapshot. */
export const besideArchive = (archivePath: string, suffix: string): string => `${archivePath.replace(/\.tar(\.zst)?$/, '')}.${suffix}`;
