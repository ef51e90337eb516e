import com.typesafe.config.*;
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.Base64;

/** Reads "operation TAB argument TAB layer…" (base64 each) per line, highest layer first; answers "ok text" or "error why". */
public final class Oracle {
    public static void main(String[] ignored) throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        for (String line; (line = in.readLine()) != null; ) {
            String answer;
            try {
                answer = "ok " + encode(answer(line.split("\t", -1)));
            } catch (ConfigException e) {
                answer = "error " + encode(e.getClass().getSimpleName() + ": " + e.getMessage());
            } catch (RuntimeException | StackOverflowError e) {
                answer = "error " + encode(String.valueOf(e));
            }
            out.println(answer);
        }
    }

    private static String answer(String[] parts) {
        Config config = ConfigFactory.empty();
        for (int i = 2; i < parts.length; i++) config = config.withFallback(ConfigFactory.parseString(decode(parts[i])));
        String argument = decode(parts[1]);
        ConfigRenderOptions json = ConfigRenderOptions.defaults().setOriginComments(false).setComments(false);
        ConfigRenderOptions hocon = json.setJson(false);
        ConfigResolveOptions alone = ConfigResolveOptions.noSystem();
        switch (parts[0]) {
            case "stored": return config.root().render(json);
            case "resolved": return config.resolve(alone).root().render(json);
            case "dumped": return config.resolve(alone).root().render(hocon);
            case "value": return config.resolve(alone).getValue(argument).render(hocon);
            case "value-json": return config.resolve(alone).getValue(argument).render(json);
            case "unset": return config.withoutPath(argument).root().render(json);
            case "string": return config.resolve(alone).getString(argument);
            case "boolean": return String.valueOf(config.resolve(alone).getBoolean(argument));
            case "millis": return String.valueOf(config.resolve(alone).getDuration(argument, java.util.concurrent.TimeUnit.MILLISECONDS));
            case "bytes": return String.valueOf(config.resolve(alone).getBytes(argument));
            default: throw new IllegalArgumentException(parts[0]);
        }
    }

    private static String encode(String text) {
        return Base64.getEncoder().encodeToString(text.getBytes(StandardCharsets.UTF_8));
    }

    private static String decode(String text) {
        return new String(Base64.getDecoder().decode(text), StandardCharsets.UTF_8);
    }
}
