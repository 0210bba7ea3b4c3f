import CommandLineTool

/// A story as one picture, an SVG file: the states of each socket, and the packets between them. It is written when the story
/// has ended.
public final class PictureTeller: Teller {
  public let output: Output
  private var picture = Picture()
  private var heading = PictureDrawing.Heading()

  public init(output: Output) { self.output = output }

  public func tell(_ item: StoryItem) {
    switch item {
    case .opening(let opening):
      heading = Self.heading(of: opening)
      picture.add(opening)
    case .said(let text, let process): picture.add(words: text, of: process)
    case .step(let step): picture.add(step)
    case .waiting, .question, .prediction: break
    case .experiment(let experiment): picture.add(note: experiment.question)
    case .verdict(let verdict): picture.add(note: "Verdict, \(verdict.half.rawValue): \(verdict.text)")
    case .note(let text): picture.add(note: text)
    case .process(let process, let event): picture.add(event, of: process)
    case .ending(let ending):
      picture.add(ending)
      output.write(PictureDrawing(picture, heading: heading).text)
      output.flush()
    }
  }

  private static func heading(of opening: StoryItem.Opening) -> PictureDrawing.Heading {
    var heading = PictureDrawing.Heading(title: opening.tool)
    if let name = LessonName(opening.tool) {
      heading.title = name.title.prefix(1).uppercased() + name.title.dropFirst()
      if LessonName.lifecycle.contains(name.topic) {
        heading.calls = LessonName.lifecycle
        heading.topic = name.topic
      }
    } else if !opening.command.isEmpty {
      heading.title = "The sockets of a program, call by call"
      heading.command = opening.command.joined(separator: " ").printable
    }
    return heading
  }
}
