/** Warns of files that moved while they were read: because the job does not pause the container, or because somebody wrote whom the
 *  pause does not stop. */
import { type DatabaseKind, databasesFirst, type MovedFile, type MovedFiles, showPath } from '../../../archive/index.js';
import type { Description, Source, Warning } from '../../../contract/index.js';

/** A warning lists at most so many names, and its texts fewer. */
const mostNames = 100;
const mostTold = 10;

/** What an owner knows each database by, and what makes a dump of it. */
const databases: Readonly<Record<DatabaseKind, { readonly title: string; readonly dump: string }>> = {
  sqlite: { title: 'SQLite', dump: 'sqlite3 with .backup' },
  postgresql: { title: 'PostgreSQL', dump: 'pg_dump' },
  mysql: { title: 'MariaDB or MySQL', dump: 'mariadb-dump or mysqldump' },
  redis: { title: 'Redis', dump: 'BGSAVE' },
};

export type Pause = 'none' | 'skipped' | 'done';

export interface MovedSource {
  readonly source: Source;
  readonly moved?: MovedFiles | undefined;
}

interface MovedPath {
  readonly source: Source;
  readonly file: MovedFile;
}

/** In the form of a job's `exclude`. */
const nameOf = ({ name, kind }: Source, path: string): string =>
  kind === 'file' ? name : `${name}:/${path === '.' ? '' : showPath(path)}`;

/** The first texts, each once, and how many more there are. */
function listSome(texts: readonly string[], more = 0): string {
  const once = [...new Set(texts)];
  const rest = Math.max(once.length, more) - mostTold;
  return `${once.slice(0, mostTold).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}

/** @param pause whether the job asks for a pause, and whether the container stood still when the latest levels were read */
export function warnMoving(tracks: readonly MovedSource[], container: Description, pause: Pause): Warning[] {
  const count = tracks.reduce((sum, { moved }) => sum + (moved?.count ?? 0), 0);
  if (count === 0) return [];
  const all = tracks.flatMap(({ source, moved }) => (moved?.files ?? []).map((file) => ({ source, file })));
  const paths = databasesFirst(all, ({ file }) => file);
  const names = paths.map(({ source, file }) => nameOf(source, file.path));
  const sources = tracks.flatMap(({ source, moved }) => (moved ? [source] : []));
  return [
    {
      code: 'moving_files',
      message: messageOf(count, names, paths),
      fix: [...fixesOf(sources, container, pause), ...dumpsOf(paths)].join('. '),
      count,
      names: names.slice(0, mostNames),
    },
  ];
}

function messageOf(count: number, names: readonly string[], paths: readonly MovedPath[]): string {
  const found = paths.flatMap(({ source, file: { database } }) =>
    database ? [`${databases[database.kind].title} (${nameOf(source, database.path)})`] : [],
  );
  const what = count === 1 ? 'a file changed or vanished while it was read' : `${count} files changed or vanished while they were read`;
  const torn = `${what}, so what is restored may be torn or not of one moment: ${listSome(names, count)}`;
  return found.length > 0 ? `${torn}. Databases among them: ${listSome(found)}` : torn;
}

function fixesOf(sources: readonly Source[], { name: container, volume }: Description, pause: Pause): string[] {
  const others = sources.flatMap((source) => {
    const users = volume.find(({ name }) => name === source.name)?.shared_with ?? [];
    const where = `${source.name} (${source.path})`;
    if (users.length > 0) return [`${where} is used by ${listSome(users)} as well: stop all that use it for the time of the backup`];
    return pause === 'done' ? [`A program outside ${container} writes to ${where}: stop it for the time of the backup`] : [];
  });
  const add = `Add pause to the features of the job: ${container} then stands still for a moment, in which these files are read`;
  return [...(pause === 'none' ? [add] : []), ...others.slice(0, mostTold)];
}

function dumpsOf(paths: readonly MovedPath[]): string[] {
  const dumps = new Set(paths.flatMap(({ file: { database } }) => (database ? [databases[database.kind].dump] : [])));
  return dumps.size > 0 ? [`Or have a dump of the database made before each backup: ${[...dumps].join(', ')}`] : [];
}
