/** Status codes of SFTP. */

export const Status = {
  ok: 0,
  eof: 1,
  noSuchFile: 2,
  denied: 3,
  failure: 4,
  badMessage: 5,
  unsupported: 8,
} as const;

/** A refusal of the server, not yet turned into a PluginError. */
export class StatusError extends Error {
  constructor(
    readonly status: number,
    text: string,
  ) {
    super(text || names[status] || `status ${status}`);
  }
}

const names: Readonly<Record<number, string>> = {
  1: 'End of file',
  2: 'No such file',
  3: 'Permission denied',
  4: 'Failure',
  5: 'Bad message',
  8: 'Operation unsupported',
};

export const hasStatus = (error: unknown, status: number): boolean => error instanceof StatusError && error.status === status;

/** Gives undefined for noSuchFile. OpenSSH says that also of a path below a file. */
export async function ifThere<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (hasStatus(error, Status.noSuchFile)) return undefined;
    throw error;
  }
}
