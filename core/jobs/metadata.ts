/** The record's cache, for people and for listings; the manifests are what counts. */
import { Readable } from 'node:stream';
import { metadataName, type RunSummary } from '../archive/index.js';
import type { Description, Target } from '../contract/index.js';
import type { BackupSpec } from './job.js';

interface Metadata {
  readonly container: Description;
  /** Complete runs, newest first. */
  readonly runs: readonly RunSummary[];
}

interface Writer {
  readonly id: number;
  readonly spec: Pick<BackupSpec, 'job_name'>;
  readonly signal: AbortSignal;
}

export async function writeMetadata(
  target: Target,
  record: string,
  { container, runs }: Metadata,
  { id, spec, signal }: Writer,
): Promise<void> {
  const listed = runs.map(({ run, started, ended, own_bytes }) => ({ run, started, ended, stored_bytes: own_bytes }));
  const text = JSON.stringify({ format: 1, job: { id, name: spec.job_name }, container, runs: listed });
  await target.put(`${record}/${metadataName}`, Readable.from([Buffer.from(text)]), { signal, replace: true });
}
