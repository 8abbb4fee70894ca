/** What a fuzzer stops for. */
export class Finding extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "Finding";
  }
}
