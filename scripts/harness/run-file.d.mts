/** The types of run-file.mjs, for the test of the runner. */
export interface Row {
  name: string;
  why: string;
}
export interface FileResult {
  passed: number;
  failed: Row[];
  skipped: Row[];
  output: string;
  seconds: number;
}
export function runFile(
  runtime: string,
  file: string,
  options: { seconds: number; full: boolean },
): Promise<FileResult>;
