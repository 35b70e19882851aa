/** The kinds of job, as one table. Store, queue, workers and messages take from here what differs between kinds. docs/contributing.md
 *  says what a further kind needs. */
import { isRunName, recordFolder, recordPrefix } from '../archive/record/layout.js';
import { parse } from '../schemas.js';
import { type At, containerOf, type JobKind, type JobSpecs, type Location } from './job.js';

/** Which locks a run takes. */
export interface LockRow {
  /** The container that is read and frozen, or made and replaced. */
  readonly container?: 'exclusive';
  readonly record?: 'read' | 'write';
  /** One of the target's connections, where it has a limit. */
  readonly connection?: true;
}

export interface Kind<Spec> {
  /** Parses settings and fills in defaults. @throws ValidationError */
  parse(value: unknown): Spec;
  /** Schema of the task that the worker gets. */
  readonly task: `${JobKind}-task`;
  /** Its runs build on earlier runs, so that a clock that steps back makes the next run start with new bases. */
  readonly buildsOnRuns: boolean;
  readonly locks: LockRow;
  /** Undefined for a job without a calendar: it runs once, at once. */
  at(spec: Spec): At | undefined;
  /** Where its record lies. */
  location(spec: Spec): Location;
  /** The container that it reads or makes. */
  container(spec: Spec): string;
  /** Names of the records that a run may read or write; `*` means any record of the location. */
  records(spec: Spec): readonly string[];
}

export const kinds: { readonly [Name in JobKind]: Kind<JobSpecs[Name]> } = {
  backup: {
    parse: (value) => parse('backup', value),
    task: 'backup-task',
    buildsOnRuns: true,
    locks: { container: 'exclusive', record: 'write', connection: true }, // with its retention
    at: ({ at }) => at,
    location: ({ dest }) => dest,
    container: ({ container_id }) => container_id,
    records: ({ job_name }) => [recordFolder(job_name)],
  },
  restore: {
    parse: (value) => parse('restore', value),
    task: 'restore-task',
    buildsOnRuns: false,
    locks: { container: 'exclusive', record: 'read', connection: true },
    at: () => undefined,
    location: ({ src }) => src,
    container: containerOf,
    records: ({ src }) => recordsMeant(src.portfolio),
  },
};

export const isKind = (name: unknown): name is JobKind => typeof name === 'string' && Object.hasOwn(kinds, name);

/** Records that a portfolio may mean. Only the target can tell which record a job id or a timestamp belongs to. */
function recordsMeant(portfolio: string | undefined): string[] {
  const parts = portfolio?.split('/') ?? [];
  if (isRunName(parts.at(-1) ?? '')) parts.pop();
  const name = parts.join('/');
  if (name === '' || /^\d+$/.test(name)) return ['*'];
  return [recordFolder(name), ...(name.startsWith(recordPrefix) ? [name] : [])];
}
