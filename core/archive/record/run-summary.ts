/** Summary of a run: some hundred bytes, whatever the size of its manifest. Texts that runs share are in memory once. */
import { createHash } from 'node:crypto';
import type { Shape } from '../../schemas.js';
import { manifestName } from './layout.js';
import { filesOf, imageSource, type Manifest, type StoredFile, storedBytesOf } from './manifest.js';
import type { ManifestFile } from './record.js';
import type { Verifications } from './verifications.js';

/** Texts of a run for a list of runs; most runs of a record share them. `warnings_more`: how many warnings are not in memory. */
export type Said = Shape<'backup-metadata'>['said'][number] & { readonly warnings_more?: number };

export interface RunSummary {
  readonly run: string;
  readonly started: string;
  readonly ended: string;
  readonly pause_ms: number;
  /** Of all archives that it needs: bytes before compression, then as stored. */
  readonly bytes: number;
  readonly needed_bytes: number;
  /** Stored bytes in the run's own folder. */
  readonly own_bytes: number;
  readonly manifest: ManifestFile;
  readonly said: Said;
  /** Needed files in order of restoring: `./<path in its own folder>`, or `<sha256> <path in the record>`. Absent when the
   *  record's runs need more files than memory may hold. */
  readonly files?: readonly string[];
  /** mtime of the run's folder, by the target's clock, when its contents were last checked. */
  readonly seen?: number;
  /** Needed files that were damaged when last read back; absent when there are none. */
  readonly failed?: readonly string[];
}

/** Memory for the file names of all runs: enough for a thousand runs of a hundred sources. */
const mostNeeded = 32 << 20;
/** Characters for the texts of all runs; beyond it, what they left out and their warnings are only counted. */
const mostSaid = 16 << 20;
/** A longer text is identified by its hash. */
const longestKey = 256;
/** Bytes of a file reference, and of a distinct text beside its characters. */
const perFile = 16;
const perText = 100;
/** Characters of what a run left out in a list of runs: the list must not grow as large as all manifests. */
const leftOutShown = 8 << 10;

type Archives = Manifest['archives'];
const sumOf = (archives: Archives, size: (archive: Archives[number]) => number): number =>
  archives.reduce((bytes, archive) => bytes + size(archive), 0);

/** The first items that a run left out, and how many more there are. */
function leftOut({ left_out }: Manifest): Pick<Said, 'left_out' | 'left_out_more'> {
  let size = 0;
  const end = left_out.findIndex(({ path, reason }) => {
    size += path.length + reason.length;
    return size > leftOutShown;
  });
  return end < 0 ? { left_out } : { left_out: left_out.slice(0, end), left_out_more: left_out.length - end };
}

const fileText = (run: string, { path, sha256 }: StoredFile): string =>
  path.startsWith(`${run}/`) ? `./${path.slice(run.length + 1)}` : `${sha256} ${path}`;

/** The path in the record of an item of `files`. */
export const pathOf = (run: string, file: string): string => (file.startsWith('./') ? `${run}/${file.slice(2)}` : file.slice(65));

/** Makes the summaries of a record's runs, and shares equal texts among them. */
export class Summaries {
  readonly #texts = new Map<string, string>();
  readonly #said = new Map<string, Said>();
  #size = 0;
  #saidSize = 0;

  /** @param verifications for failures of runs whose files are not in memory */
  of(manifest: Manifest, file: ManifestFile, verifications: Verifications): RunSummary {
    const { run, started, ended, pause_ms, archives } = manifest;
    const files = this.filesOf(archives.flatMap((one) => filesOf(one).map((each) => fileText(run, each))));
    const failed = files === undefined && verifications.failedOf(manifest).map(({ path }) => path);
    return {
      ...{ run, started, ended, pause_ms },
      bytes: sumOf(archives, ({ bytes }) => bytes),
      needed_bytes: sumOf(archives, storedBytesOf),
      own_bytes: sumOf(archives, (one) => (one.path.startsWith(`${run}/`) ? storedBytesOf(one) : 0)),
      manifest: file,
      said: this.#saidOf(manifest),
      ...(files && { files }),
      ...(failed && failed.length > 0 && { failed }),
    };
  }

  /** The same texts, shared; undefined when they exceed the limit of memory. */
  filesOf(files: readonly string[]): readonly string[] | undefined {
    if (this.#size > mostNeeded) return undefined;
    return files.map((text) => {
      const kept = this.#texts.get(text);
      this.#size += perFile + (kept === undefined ? text.length + perText : 0);
      if (kept === undefined) this.#texts.set(text, text);
      return kept ?? text;
    });
  }

  #saidOf(manifest: Manifest): Said {
    const { features, image, archives, warnings } = manifest;
    const hasImage = image !== undefined && archives.some(({ source }) => source === imageSource);
    return this.saidOnce({ features, ...(hasImage && { image: image.digest }), ...leftOut(manifest), ...(warnings && { warnings }) });
  }

  /** The same texts, shared, or shortened when they exceed the limit of memory. */
  saidOnce(said: Said): Said {
    const text = JSON.stringify(said);
    const key = text.length > longestKey ? createHash('sha256').update(text).digest('base64') : text;
    const kept = this.#said.get(key);
    if (kept !== undefined) return kept;
    const isCuttable = said.left_out.length > 0 || said.warnings !== undefined;
    if (this.#saidSize + text.length > mostSaid && isCuttable) return this.saidOnce(countSaid(said));
    this.#saidSize += text.length;
    this.#said.set(key, said);
    return said;
  }
}

/** The texts with only a count of what a run left out. */
export const withoutLeftOut = (said: Said): Said => ({
  ...said,
  left_out: [],
  left_out_more: said.left_out.length + (said.left_out_more ?? 0),
});

const countSaid = ({ warnings, ...said }: Said): Said => ({
  ...withoutLeftOut(said),
  ...(warnings && { warnings_more: warnings.length }),
});

/** Paths inside the record that a run needs. @returns undefined when they are not in memory */
export function pathsOf({ run, files }: RunSummary): readonly string[] | undefined {
  return files && [`${run}/${manifestName}`, ...files.map((file) => pathOf(run, file))];
}

/** The needed files of a run that failed, with the reason. */
export function failuresOf({ run, files, failed = [] }: RunSummary, verifications: Verifications): { path: string; problem: string }[] {
  const failedPaths = (path: string, sha256?: string) => {
    const problem = verifications.problemOf(path, sha256);
    return problem === undefined ? [] : [{ path, problem }];
  };
  if (files === undefined) return failed.flatMap((path) => failedPaths(path));
  return files.flatMap((file) => failedPaths(pathOf(run, file), file.startsWith('./') ? undefined : file.slice(0, 64)));
}
