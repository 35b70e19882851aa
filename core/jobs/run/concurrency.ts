const mostAtOnce = 2;

/** How many sources are read or written at a time, on a target of so many connections: one of many small files waits for the disk and for tar, and leaves a core
 *  idle that another can use. Each costs the memory of a compressor. */
export const sourcesAtOnce = (connections: number): number => Math.max(1, Math.min(mostAtOnce, connections));
